package server

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/millrace/mqtt/codec"
)

// errRefusedConnect ends a reader after a CONNACK that refused.
var errRefusedConnect = errors.New("mqtttest: connect refused")

// errTakenOver ends a reader whose session has gone to another connection, or is gone.
var errTakenOver = errors.New("mqtttest: session taken over")

// refusals is what RefuseConnects asked for.
type refusals struct {
	left int // negative = all
	code codec.ReasonCode
}

// onConnect answers the first packet of a connection.
func (c *client) onConnect(f codec.Frame) error {
	if f.Type != codec.CONNECT {
		return broken(f.Type, codec.ProtocolError, "first packet is not CONNECT [MQTT-3.1.0-1]")
	}
	var p codec.Connect
	if err := p.Decode(f.Body); err != nil {
		var e *codec.Error
		if errors.As(err, &e) && e.Code == codec.UnsupportedProtocolVersion {
			c.refuse(codec.V311, e.Code, nil)
		}
		return err
	}
	c.version, c.id = p.Version, p.ClientID
	c.framer.SetVersion(p.Version)

	s := c.s
	s.mu.Lock()
	hook, accepts := s.cfg.OnConnect, s.cfg.accepts(p.Version)
	code := s.refuse.next()
	assigned := s.assign(&p)
	s.mu.Unlock()
	c.id = p.ClientID
	s.note(c, f)
	if !accepts {
		return c.refuse(codec.V311, codec.UnsupportedProtocolVersion, nil)
	}
	var props *codec.Properties
	switch {
	case code != codec.Success:
	case p.ClientID == "":
		code = codec.ClientIdentifierNotValid
	case p.Props.Has(codec.PropAuthenticationMethod):
		code = codec.BadAuthenticationMethod
	case hook != nil:
		code, props = hook(&p)
	}
	if code != codec.Success {
		return c.refuse(p.Version, code, props)
	}
	return c.accepted(&p, props, assigned)
}

func (r *refusals) next() codec.ReasonCode {
	if r.left == 0 {
		return codec.Success
	}
	if r.left > 0 {
		r.left--
	}
	return r.code
}

// assign gives an identifier to a client without one where its version allows that
// [MQTT-3.1.3-6], and reports whether it did. The caller holds mu.
func (s *Server) assign(p *codec.Connect) bool {
	if p.ClientID != "" || p.Version == codec.V31 || (p.Version == codec.V311 && !p.CleanStart) {
		return false
	}
	s.assigned++
	p.ClientID = fmt.Sprintf("auto-%d", s.assigned)
	return true
}

// refuse sends a CONNACK with an error in the form of version v, and ends the connection.
func (c *client) refuse(v codec.Version, code codec.ReasonCode, props *codec.Properties) error {
	if v != codec.V5 {
		code, props = returnCode(code), nil
	}
	b, err := codec.AppendConnack(nil, v, &codec.Connack{Code: code, Props: props})
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.log.stats.Refused++
	if err == nil {
		c.send(b)
		err = errRefusedConnect
	}
	c.end()
	return err
}

// returnCode is the nearest return code of 3.x, 3.1.1 section 3.2.2.3.
func returnCode(code codec.ReasonCode) codec.ReasonCode {
	switch code {
	case codec.UnsupportedProtocolVersion:
		return 1
	case codec.ClientIdentifierNotValid:
		return 2
	case codec.BadUserNameOrPassword:
		return 4
	case codec.NotAuthorized, codec.Banned, codec.BadAuthenticationMethod:
		return 5
	}
	return 3
}

// accepted ties the connection to its session and sends the CONNACK and what the session holds.
func (c *client) accepted(p *codec.Connect, props *codec.Properties, assigned bool) error {
	s := c.s
	fate := c.fate(Ack{Type: codec.CONNACK})
	s.mu.Lock()
	defer s.mu.Unlock()
	if props == nil {
		props = s.cfg.Connack
	}
	props = connackProps(p, props, assigned)
	c.announced = limitsOf(props)
	c.keepAlive = time.Duration(p.KeepAlive) * time.Second
	if props.Has(codec.PropServerKeepAlive) {
		c.keepAlive = time.Duration(props.ServerKeepAlive) * time.Second
	}
	if props.Has(codec.PropMaximumPacketSize) {
		c.framer.SetMax(props.MaximumPacketSize)
	}
	theirs := limitsOf(p.Props)
	c.window = s.cfg.inflight(c.version, theirs.receiveMaximum)
	if p.Props.Has(codec.PropMaximumPacketSize) {
		c.maxPacket = int(min(p.Props.MaximumPacketSize, math.MaxInt32)) // int may have 32 bits
	}
	sess, present := s.attach(c, p, sessionExpiry(p, props))
	b, err := codec.AppendConnack(nil, c.version, &codec.Connack{SessionPresent: present, Props: props})
	if err != nil {
		return err
	}
	s.log.stats.Connects++
	s.notify()
	c.dispatch(Ack{Type: codec.CONNACK, packet: b, then: func() { s.resume(sess, c) }}, fate)
	return nil
}

// connackProps are the configured properties, for this client.
func connackProps(p *codec.Connect, configured *codec.Properties, assigned bool) *codec.Properties {
	if p.Version != codec.V5 {
		return nil
	}
	var props codec.Properties
	if configured != nil {
		props = *configured
	}
	if assigned {
		props.Present = props.Present.With(codec.PropAssignedClientIdentifier)
		props.AssignedClientID = p.ClientID
	}
	return &props
}

// sessionExpiry is how long the session outlives its connections, in seconds; MaxUint32 = for ever.
func sessionExpiry(p *codec.Connect, connack *codec.Properties) uint32 {
	switch {
	case p.Version != codec.V5 && p.CleanStart:
		return 0
	case p.Version != codec.V5:
		return math.MaxUint32
	case connack.Has(codec.PropSessionExpiryInterval):
		return connack.SessionExpiry
	case p.Props.Has(codec.PropSessionExpiryInterval):
		return p.Props.SessionExpiry
	}
	return 0
}

// onDisconnect ends the session's connection; the client is left to close it [MQTT-3.14.4-2].
func (c *client) onDisconnect(f codec.Frame) error {
	var p codec.Disconnect
	if err := p.Decode(c.version, f.Body); err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess := c.session; sess.client == c && p.Props.Has(codec.PropSessionExpiryInterval) {
		if sess.expiry == 0 && p.Props.SessionExpiry != 0 { // section 3.14.2.2.2
			return broken(codec.DISCONNECT, codec.ProtocolError, "Session Expiry Interval where CONNECT had 0")
		}
		sess.expiry = p.Props.SessionExpiry
	}
	s.detach(c, p.Code != codec.DisconnectWithWill) // [MQTT-3.14.4-3]
	c.parted = true
	c.ready.Signal()
	c.keepAlive = s.cfg.lastWords()
	return nil
}
