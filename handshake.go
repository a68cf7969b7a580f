package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// attempt is one try to make a link to one server in one version.
type attempt struct {
	c       *Conn
	server  *transport.URL
	version Version
	creds   Credentials
	clean   bool        // Clean Start, or Clean Session, of the CONNECT
	no      uint32      // of the link that the attempt would make
	to      *addressTry // the addresses to dial

	receiveMax int // announced by CONNECT on 5.0

	withoutWill bool // leave the will out
	speaks5     bool // the server has sent a packet of MQTT 5.0, in this attempt or before
}

// fail wraps err with the step at which the attempt failed.
func (a *attempt) fail(step string, err error) error {
	e := &ConnectError{Server: a.server.String(), Step: step, Version: a.version, Err: err}
	e.Address = a.address()
	if s, ok := errors.AsType[*transport.StepError](err); ok {
		e.Step = string(s.Step)
		if s.Address != "" {
			e.Address = s.Address
		}
	}
	return e
}

// address returns the address of the server's host that accepted the socket. It is empty
// when none did, or the host was not looked up.
func (a *attempt) address() string {
	if a.to.used == a.server.Address() {
		return ""
	}
	return a.to.used
}

// failDial wraps the error of a dial, which joins those of its addresses when there are
// several.
func (a *attempt) failDial(err error) error {
	all, several := err.(interface{ Unwrap() []error })
	if !several {
		return a.fail("dial", err)
	}
	var errs []error
	for _, one := range all.Unwrap() {
		errs = append(errs, a.fail("dial", one))
	}
	return errors.Join(errs...)
}

// attemptGrace is how long an attempt may still take when its context has ended: for a
// DISCONNECT to a server that may have accepted it, and for the calls of the socket.
const attemptGrace = faultTime + killTime

// attemptResult is the result of an attempt, and the state that the attempt has changed.
type attemptResult struct {
	attempt attempt
	to      addressTry
	link    *link
	err     error
}

// dial runs the attempt within ctx in a goroutine of its own. A call of the socket, or of
// the application's dialer, that outlives ctx is left behind in that goroutine. dial
// returns a link that is not running yet.
func (a *attempt) dial(ctx context.Context) (*link, error) {
	m := &attemptResult{attempt: *a, to: *a.to} // a goroutine left behind works on a copy
	m.attempt.to = &m.to
	done := make(chan struct{})
	go func() { // ends with the attempt; waited for below, unless it is left behind
		defer close(done)
		m.err = a.fail("dial", &CallbackError{Function: dialerFunc, Exited: true}) // unless it returns
		m.link, m.err = m.attempt.connectOnce(ctx)
	}()
	select {
	case <-done:
		return a.copyResult(m)
	case <-ctx.Done():
	}
	if waitUntil(time.Now().Add(attemptGrace), done) {
		return a.copyResult(m)
	}
	a.c.stats.leftBehind.Add(1)
	go func() { // ends when the call that was left behind returns; not waited for
		if <-done; m.link != nil {
			m.link.nc.Close()
		}
	}()
	return nil, a.fail("dial", context.Cause(ctx))
}

// copyResult copies the changed state of m to a, and returns the result.
func (a *attempt) copyResult(m *attemptResult) (*link, error) {
	to := a.to
	*to = m.to
	*a = m.attempt
	a.to = to
	return m.link, m.err
}

// connectOnce makes the network connection and exchanges CONNECT and CONNACK, all
// within ctx. It returns a link that is not running yet.
func (a *attempt) connectOnce(ctx context.Context) (*link, error) {
	packet, err := a.connect()
	if err != nil {
		return nil, a.fail("CONNECT", err)
	}
	d := a.c.cfg.dialer
	if a.creds.TLS != nil {
		d.TLS = a.creds.TLS
	}
	if a.creds.Header != nil {
		d.Header = a.creds.Header
	}
	if a.version == V31 {
		d.Subprotocols = []string{"mqtt", "mqttv3.1"}
	}
	once, err := d.Prepare(ctx, a.server)
	if err != nil {
		return nil, a.fail("dial", err)
	}
	ctx = a.to.share(ctx)
	nc, err := a.to.dial(ctx, once, a.server)
	if err != nil {
		return nil, a.failDial(err)
	}
	l, err := a.handshake(ctx, nc, packet)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return l, nil
}

// handshake sends packet, the CONNECT, and reads CONNACK. When ctx ends the socket is
// closed. When it ends because the Conn does, a DISCONNECT is sent before, since the
// server may have accepted the will already.
func (a *attempt) handshake(ctx context.Context, nc net.Conn, packet []byte) (*link, error) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { a.interrupt(nc, nc.SetWriteDeadline); close(interrupted) })
	_, err := nc.Write(packet)
	if err != nil {
		defer stop()
		if ctx.Err() != nil {
			return nil, a.fail("CONNECT", context.Cause(ctx))
		}
		step, err := a.refusal(nc, err)
		return nil, a.fail(step, orCause(ctx, err))
	}
	a.c.hookHandshake(true, codec.CONNECT, len(packet), a.no)
	if !stop() {
		<-interrupted
		a.endInterrupted(nc)
		return nil, a.fail("CONNECT", context.Cause(ctx))
	}
	if c, ok := nc.(controlFlusher); ok {
		// There is no writer yet, and a WebSocket ping may arrive before the CONNACK.
		c.SetControlNotify(func() { _ = c.FlushControl() })
		defer c.SetControlNotify(nil)
	}
	interrupted = make(chan struct{})
	stop = context.AfterFunc(ctx, func() { a.interrupt(nc, nc.SetReadDeadline); close(interrupted) })
	f := codec.NewFramer(a.version, uint32(a.c.cfg.inboundLimit))
	ack, err := a.connack(nc, f)
	if !stop() {
		<-interrupted
		a.endInterrupted(nc)
		return nil, a.fail("CONNACK", context.Cause(ctx))
	}
	if err == nil {
		return a.newLink(nc, f, ack), nil
	}
	if p, ok := errors.AsType[*ProtocolError](err); ok && a.version == V5 {
		_ = a.c.endUnused(ctx, nc, a.version, p.Code, a.no, time.Now().Add(faultTime))
	}
	return nil, a.fail("CONNACK", err)
}

// interrupt ends a call on nc for which setDeadline sets the deadline. If the Conn is ending
// and the connection has deadlines, DISCONNECT can still be sent.
func (a *attempt) interrupt(nc net.Conn, setDeadline func(time.Time) error) {
	if !a.c.endsInOrder() || setDeadline(time.Now()) != nil {
		nc.Close()
	}
}

// endInterrupted ends nc, which has had CONNECT, in order if the Conn does.
func (a *attempt) endInterrupted(nc net.Conn) {
	if a.c.endsInOrder() {
		_ = a.c.endUnused(a.c.aborted, nc, a.version, codec.Success, a.no, a.c.unusedBy())
	}
}

// refusal returns the reason for which the server ended the connection before CONNECT was
// written, which failed with err: the reason may be among the bytes not read yet.
func (a *attempt) refusal(nc net.Conn, err error) (step string, reason error) {
	if nc.SetReadDeadline(time.Now().Add(killTime)) != nil {
		return "CONNECT", err // a read could wait for as long as the attempt lasts
	}
	_, said := a.connack(nc, codec.NewFramer(a.version, uint32(a.c.cfg.inboundLimit)))
	_, code := errors.AsType[*ReasonError](said)
	_, frame := errors.AsType[*transport.CloseError](said)
	if code || frame {
		return "CONNACK", said
	}
	return "CONNECT", err
}

// discard makes a 3.x server forget an earlier session of the client identifier: it makes
// a connection with Clean Session 1, and disconnects.
func (a *attempt) discard(ctx context.Context) error {
	once := *a
	once.clean, once.withoutWill = true, true
	l, err := once.dial(ctx)
	if err != nil {
		return err
	}
	if err := a.c.endUnused(ctx, l.nc, a.version, codec.Success, a.no, disconnectBy(ctx)); err != nil {
		return a.fail("DISCONNECT", err)
	}
	return nil
}

// orCause returns the cause of ctx when it has ended and so closed the socket, else err.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connect encodes the CONNECT.
func (a *attempt) connect() ([]byte, error) {
	cfg := a.c.cfg
	p := &codec.Connect{
		Version: a.version, ClientID: a.c.ClientID(), CleanStart: a.clean,
		// Rounded up, so that CONNECT does not announce less than the link keeps to.
		KeepAlive: uint16(wholeSeconds(cfg.keepAliveFor(a.server))),
	}
	if err := a.identify(p); err != nil {
		return nil, err
	}
	if err := a.addWill(p); err != nil {
		return nil, err
	}
	if a.version == V5 {
		p.Props = a.properties()
	}
	return codec.AppendConnect(nil, a.version, p)
}

// identify adds client identifier, user name and password.
func (a *attempt) identify(p *codec.Connect) error {
	switch {
	case p.ClientID == "" && a.version == V31:
		return invalid("client identifier", "", "must have 1 to 23 characters on MQTT 3.1")
	case p.ClientID == "" && a.version == V311 && !a.clean:
		return invalid("client identifier", "", "must not be empty for a session that is kept [MQTT-3.1.3-7]")
	}
	if len(p.ClientID) > 23 && a.version == V31 {
		a.c.info("client identifier is longer than the 23 characters of MQTT 3.1")
	}
	if a.creds.Username != nil {
		p.HasUsername, p.Username = true, *a.creds.Username
	}
	if a.creds.Password != nil {
		p.HasPassword, p.Password = true, a.creds.Password
	}
	if p.HasPassword && !p.HasUsername && a.version != V5 {
		return invalid("credentials", "", "a password needs a user name on MQTT 3.x [MQTT-3.1.2-22]")
	}
	return nil
}

// addWill adds the will, if there is one.
func (a *attempt) addWill(p *codec.Connect) error {
	w := a.c.cfg.will
	if w == nil || a.withoutWill {
		return nil
	}
	if a.version != V5 && (w.Properties != nil || w.Delay > 0) {
		return &VersionError{Feature: "a will with delay or properties", Version: a.version}
	}
	p.Will = &codec.Will{Topic: w.Topic, Payload: w.Payload, QoS: byte(w.QoS), Retain: w.Retain}
	if a.version != V5 {
		return nil
	}
	p.Will.Props = wireProperties(w.Properties)
	if w.Delay > 0 {
		if p.Will.Props == nil {
			p.Will.Props = &codec.Properties{}
		}
		p.Will.Props.WillDelay = wholeSeconds(w.Delay)
		p.Will.Props.Present = p.Will.Props.Present.With(codec.PropWillDelayInterval)
	}
	return nil
}

// properties returns the properties of the CONNECT: those that an option has set. A limit
// at its largest value leaves its property out.
func (a *attempt) properties() *codec.Properties {
	cfg := a.c.cfg
	p := *cfg.connectProps
	if cfg.session > 0 {
		p.SessionExpiry = wholeSeconds(cfg.session)
		p.Present = p.Present.With(codec.PropSessionExpiryInterval)
	}
	if a.receiveMax < maxReceive || cfg.receiveMax < maxReceive {
		// After an overrun 65,535 is written, although the property could be left out
		// then: Mosquitto keeps to 20 for a client that leaves it out, and drops from its
		// queue.
		p.ReceiveMaximum = uint16(a.receiveMax)
		p.Present = p.Present.With(codec.PropReceiveMaximum)
	}
	if cfg.inboundLimit < maxPacket {
		p.MaximumPacketSize = uint32(cfg.inboundLimit)
		p.Present = p.Present.With(codec.PropMaximumPacketSize)
	}
	return &p
}

// connack reads until the CONNACK is complete. Bytes after it stay in f.
func (a *attempt) connack(nc net.Conn, f *codec.Framer) (*codec.Connack, error) {
	for {
		frame, ok, err := f.Next()
		if err != nil {
			return nil, protocolFault(err)
		}
		if ok {
			return a.accepted(&frame)
		}
		if _, err := f.Fill(nc); err != nil {
			if errors.Is(err, io.EOF) {
				frame := closeFrame(nc)
				err = &noAnswerError{version: a.version, frame: frame, speaks5: a.speaks5}
			}
			return nil, err
		}
	}
}

// accepted checks the server's first packet.
func (a *attempt) accepted(f *codec.Frame) (*codec.Connack, error) {
	a.c.hookHandshake(false, f.Type, f.Size, a.no)
	if a.version == V5 && (f.Type == codec.DISCONNECT || f.Type == codec.AUTH) {
		a.speaks5 = true
	}
	if f.Type != codec.CONNACK {
		return nil, &ProtocolError{Code: codec.ProtocolError, Detail: f.Type.String() + " before CONNACK [MQTT-3.2.0-1]"}
	}
	var p codec.Connack
	if err := p.Decode(a.version, f.Body); err != nil {
		return nil, protocolFault(err)
	}
	if a.version == V5 && !p.Short && p.Code != codec.UnsupportedProtocolVersion {
		a.speaks5 = true
	}
	if p.Short || p.Code != codec.Success {
		e := newReasonError(codec.CONNACK, a.version, p.Code, p.Props)
		if p.Short {
			e.Version, e.Code = V311, 1
		}
		return nil, e
	}
	if p.SessionPresent && a.clean && a.version != V31 {
		return nil, &ProtocolError{Code: codec.ProtocolError, Detail: "session present after a clean start [MQTT-3.2.2-4]"}
	}
	if p.Props.Has(codec.PropAuthenticationMethod) {
		return nil, &ProtocolError{Code: codec.ProtocolError, Detail: "authentication method that was not asked for [MQTT-4.12.0-6]"}
	}
	return &p, nil
}

// newLink makes the link that the CONNACK grants.
func (a *attempt) newLink(nc net.Conn, f *codec.Framer, ack *codec.Connack) *link {
	kept := *ack
	kept.Props = briefProperties(ack.Props)
	l := &link{
		session: &a.c.session, server: a.server.String(), address: a.address(),
		framer: f, connack: kept,
		socket: socket{nc: nc, began: time.Now(), foreign: !ofSystem(nc)},
		sender: sender{version: a.version, agreed: a.agree(ack), sendQueue: sendQueue{out: &sendBuffer{}}},
	}
	l.prepare(a.c.out)
	return l
}

// agree returns what client and server may send, by CONNECT and CONNACK.
func (a *attempt) agree(ack *codec.Connack) agreed {
	g := agreed{
		version: a.version, ourReceiveMaximum: a.receiveMax, receiveMaximum: 65535, maximumPacket: maxPacket, maximumQoS: 2,
		keepAlive: a.c.cfg.keepAliveFor(a.server), sessionExpiry: a.c.cfg.session, sessionPresent: ack.SessionPresent,
	}
	if a.version == V31 {
		// 3.1 has no such flag: a session that is kept counts as resumed.
		g.sessionPresent = !a.clean
	}
	p := ack.Props
	if a.version != V5 || p == nil {
		return g
	}
	if p.Has(codec.PropReceiveMaximum) {
		g.receiveMaximum = int(p.ReceiveMaximum)
	}
	if p.Has(codec.PropMaximumPacketSize) {
		g.maximumPacket = int(min(p.MaximumPacketSize, maxPacket)) // no packet is larger, and int may have 32 bits
	}
	if p.Has(codec.PropMaximumQoS) {
		g.maximumQoS = QoS(p.MaximumQoS)
	}
	if p.Has(codec.PropServerKeepAlive) {
		g.keepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	if p.Has(codec.PropSessionExpiryInterval) {
		g.sessionExpiry = neverFrom(time.Duration(p.SessionExpiry) * time.Second)
	}
	off := func(id codec.PropertyID, v byte) bool { return p.Has(id) && v == 0 }
	g.noRetain = off(codec.PropRetainAvailable, p.RetainAvailable)
	g.noWildcard = off(codec.PropWildcardSubscriptionAvailable, p.WildcardSubAvailable)
	g.noSubID = off(codec.PropSubscriptionIdentifierAvailable, p.SubIDAvailable)
	g.noShared = off(codec.PropSharedSubscriptionAvailable, p.SharedSubAvailable)
	g.assignedID = p.AssignedClientID
	return g
}
