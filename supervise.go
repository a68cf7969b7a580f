package mqtt

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// supervisor is what the Conn's supervising goroutine owns: which server comes
// next, how often attempts failed, and what links died of.
type supervisor struct {
	c        *Conn
	next     int                // index of the server to try next
	versions map[string]Version // that worked, by server
	failures int                // attempts since the last stable link
	links    uint32             // number of the last link
	existed  bool               // a session may exist at the server: never start clean again on 5.0
	flaps    int                // links in a row that died young, or of a suspect
	fresh    bool               // an earlier session was discarded at a 3.x server
	poison   string             // protocol error of the last link
	poisoned int                // how many links in a row died of it
	lastUp   time.Duration      // how long the last link was up
	first    chan<- error       // told once how the first connect went; nil afterwards
}

// supervise is the Conn's supervising goroutine: it makes one link after the
// other until the Conn closes or gives up, and is the last but one to end.
func (c *Conn) supervise(first chan<- error) {
	s := &supervisor{c: c, versions: map[string]Version{}, first: first}
	err := s.loop()
	c.finish(err)
	s.tell(err)
}

// tell reports how the first connect went, once.
func (s *supervisor) tell(err error) {
	if s.first != nil {
		s.first <- err
		s.first = nil
	}
}

// loop returns why the Conn ends.
func (s *supervisor) loop() error {
	for {
		l, err := s.round()
		if err == nil {
			err = s.run(l)
		}
		if s.c.isClosing() {
			<-s.c.ctx.Done()
			return context.Cause(s.c.ctx)
		}
		if s.stops(err) {
			return err
		}
		if err := s.wait(err); err != nil {
			return err
		}
	}
}

// stops reports whether err ends the Conn.
func (s *supervisor) stops(err error) bool {
	cfg := s.c.cfg
	if errors.Is(err, errLocalClose) {
		return false // Reconnect was asked for
	}
	if cfg.onError != nil {
		switch cfg.onError(err) {
		case DecideRetry:
			return false
		case DecideStop:
			return true
		}
	}
	if s.first != nil && cfg.firstConnect == FirstConnectFail {
		return true
	}
	if s.poisoned >= flapLimit {
		return true
	}
	if errors.Is(err, ErrTakenOver) {
		return !cfg.survive
	}
	return errors.Is(err, ErrUnsupportedVersion) && s.links > 0
}

// wait sleeps before the next attempt. It returns an error when the Conn is to end.
func (s *supervisor) wait(cause error) error {
	c := s.c
	if s.lastUp >= c.cfg.stableAfter {
		s.failures = 0
	}
	s.failures++
	delay, goOn := c.cfg.backoff.Delay(backoff.Attempt{N: s.failures, Err: cause, Up: s.lastUp})
	s.lastUp = 0
	if !goOn {
		return cause
	}
	if errors.Is(cause, errLocalClose) {
		delay = 0 // Reconnect was asked for
	}
	c.setState(StateWaiting)
	c.emit(Retrying{Attempt: s.failures, Delay: delay, Err: cause})
	c.info("retrying", "attempt", s.failures, "delay", delay, "error", cause)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.nudge:
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	return nil
}

// round tries every server once, beginning with the one after the last that
// failed, and returns the first link.
func (s *supervisor) round() (*link, error) {
	var errs []error
	n := len(s.c.cfg.servers)
	for range n {
		l, err := s.domain(s.c.cfg.servers[s.next%n])
		if err == nil {
			return l, nil
		}
		s.next++
		errs = append(errs, err)
		if s.c.ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 1 {
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// domain tries u, or when u names a domain whose SRV records name the servers,
// each of these in the order of the records.
func (s *supervisor) domain(u *transport.URL) (*link, error) {
	if !u.SRV() {
		return s.server(u)
	}
	c := s.c
	ctx, cancel := c.attemptContext()
	targets, err := c.cfg.dialer.Targets(ctx, u)
	cancel()
	if err != nil {
		return nil, &ConnectError{Server: u.String(), Step: string(transport.StepResolve), Err: err}
	}
	var errs []error
	for _, t := range targets {
		l, err := s.server(t)
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
		if c.ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// attemptContext bounds one attempt.
func (c *Conn) attemptContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(c.ctx, c.cfg.connectTimeout,
		&timeoutError{"no connection within " + c.cfg.connectTimeout.String()})
}

// server tries one server, in one version after the other as far as the server
// refuses versions, within one connect timeout.
func (s *supervisor) server(u *transport.URL) (*link, error) {
	c := s.c
	ctx, cancel := c.attemptContext()
	defer cancel()
	c.setState(StateConnecting)
	creds, err := c.credentials(ctx)
	if err != nil {
		return nil, &ConnectError{Server: u.String(), Step: "credentials", Err: err}
	}
	if creds.URL != "" {
		if u, err = transport.Parse(creds.URL); err != nil {
			return nil, &ConnectError{Server: "(of the credentials function)", Step: "credentials", Err: err}
		}
	}
	key := u.String()
	versions := c.cfg.versions
	if v, known := s.versions[key]; known {
		versions = []Version{v}
	}
	for i, v := range versions {
		c.emit(Connecting{Server: key, Version: v, Attempt: s.failures + 1})
		a := &attempt{c: c, server: u, version: v, creds: creds, clean: s.clean(v), no: s.links + 1}
		l, err := s.dial(ctx, a)
		if err == nil {
			s.versions[key] = v
			if i > 0 {
				c.emit(Downgraded{What: "protocol version", From: versions[0].String(), To: v.String()})
			}
			return l, nil
		}
		c.info("connect failed", "server", key, "version", v.String(), "error", err)
		if i == len(versions)-1 || ctx.Err() != nil || !c.refusedVersion(err) {
			return nil, err
		}
	}
	return nil, nil // not reached: versions is never empty
}

// dial makes a link, and before the first one of a fresh session on 3.x has the
// server discard what it kept.
func (s *supervisor) dial(ctx context.Context, a *attempt) (*link, error) {
	cfg := s.c.cfg
	if a.version != V5 && cfg.fresh && cfg.session > 0 && !s.existed && !s.fresh {
		if err := a.discard(ctx); err != nil {
			return nil, err
		}
		s.fresh = true
	}
	return a.dial(ctx)
}

// refusedVersion reports whether err allows trying a lower version.
func (c *Conn) refusedVersion(err error) bool {
	if errors.Is(err, ErrUnsupportedVersion) {
		return true
	}
	_, cut := errors.AsType[*noAnswerError](err)
	return cut && c.cfg.downgradeOnCut
}

// clean is the Clean Start or Clean Session flag of the next CONNECT.
func (s *supervisor) clean(v Version) bool {
	cfg := s.c.cfg
	if v != V5 {
		// It never changes there, or a clean Conn would leave a session behind
		// that lives for ever.
		return cfg.session == 0
	}
	// Clean once, at the first connect; afterwards the session, which outlives
	// the link only by its expiry, is ours.
	return !s.existed && (cfg.session == 0 || cfg.fresh)
}

// credentials returns those of the next attempt.
func (c *Conn) credentials(ctx context.Context) (Credentials, error) {
	if c.cfg.credentials == nil {
		return c.cfg.fixed, nil
	}
	cr, err := c.cfg.credentials(ctx)
	if err != nil {
		return cr, err
	}
	check := config{}
	check.checkCredentials(&cr)
	return cr, errors.Join(check.errs...)
}

// run makes l the link of the Conn and waits for its end.
func (s *supervisor) run(l *link) error {
	c := s.c
	s.links++
	l.no = s.links
	probe := s.flaps >= flapProbe
	l.probe = probe
	c.stats.links.Add(1)
	c.events.setLink(l.no)
	first := s.links == 1 && !c.restored
	s.existed = true
	if !c.linkUp(l, first && l.agreed.sessionPresent) {
		if c.endsInOrder() {
			// The server has accepted the connection, and the will with it.
			_ = c.part(l.nc, l.version, codec.Success, l.no, time.Now().Add(faultWords))
		}
		l.nc.Close()
		return context.Cause(c.ctx)
	}
	if probe {
		c.later(flapTime, func() { c.out.endQuiet(l) })
	}
	select {
	case <-c.nudge: // asked for while this link was being made
	default:
	}
	s.tell(nil)
	stop := context.AfterFunc(c.ctx, func() { l.kill(errLocalClose) })
	err := l.run()
	stop()
	c.linkDown(l, err)
	s.lastUp = time.Since(l.began)
	s.learn(l, err)
	return err
}

// linkUp settles the session with what the CONNACK says and makes l current. It
// returns false when the Conn is closing.
func (c *Conn) linkUp(l *link, foreign bool) bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	if id := l.agreed.assignedID; id != "" && c.clientID == "" {
		c.clientID = id
	}
	id := c.clientID
	c.link = l
	c.mu.Unlock()

	c.ledger.up(l.no, l.version, l.agreed.sessionPresent, c.receiveMaximum(l))
	var random uint16
	if foreign {
		// Answers to a former process may still come: begin elsewhere.
		random = uint16(1 + rand.IntN(65535))
	}
	t := c.routes
	var settled []*Subscription
	var lost []lostRoute
	t.mu.Lock()
	c.out.up(l, l.agreed.sessionPresent, random, func() {
		settled, lost = t.up(&l.agreed, c.cfg.always, c.out.sendControl)
	})
	grace := t.beginBacklog(l.no, l.agreed.sessionPresent)
	t.mu.Unlock()
	if grace {
		c.later(c.cfg.backlogGrace, func() { c.endBacklog(l.no) })
	}
	c.setState(StateConnected)
	c.emit(connectedEvent(l, id))
	c.info("connected", "server", l.server, "version", l.version.String(), "session", l.agreed.sessionPresent)
	if foreign {
		c.emit(SessionResumed{})
	}
	c.tellDowngrades(l)
	c.tellSubscribed(settled, lost)
	return true
}

func (c *Conn) receiveMaximum(l *link) int {
	if l.version != V5 {
		return 0
	}
	return c.cfg.receiveMax
}

// tellDowngrades reports what the server grants less of than was asked for.
func (c *Conn) tellDowngrades(l *link) {
	if l.version == V5 && l.agreed.sessionExpiry < c.cfg.session {
		c.emit(Downgraded{What: "session expiry", From: c.cfg.session.String(), To: l.agreed.sessionExpiry.String(), Temporary: true})
	}
	if p := c.cfg.connectProps; l.version != V5 && (p.Present != 0 || len(p.User) > 0) {
		c.emit(Downgraded{What: "CONNECT properties", From: V5.String(), To: l.version.String(), Temporary: true})
	}
}

func connectedEvent(l *link, id string) Connected {
	g := &l.agreed
	return Connected{
		Server: l.server, Version: l.version, SessionPresent: l.connack.SessionPresent, ClientID: id,
		KeepAlive: g.keepAlive, SessionExpiry: g.sessionExpiry, ReceiveMaximum: g.receiveMaximum,
		MaximumPacketSize: g.maximumPacket, MaximumQoS: g.maximumQoS, RetainAvailable: !g.noRetain,
		WildcardAvailable: !g.noWildcard, SharedAvailable: !g.noShared, Connack: l.connack,
	}
}

// linkDown takes l back after its goroutines have ended.
func (c *Conn) linkDown(l *link, cause error) {
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	told := cause
	if errors.Is(cause, errLocalClose) {
		told = ErrClosed
	}
	c.out.down(l, told)
	c.routes.down()
	c.setState(StateWaiting)
	c.emit(Disconnected{Err: told, Up: time.Since(l.began)})
	c.info("disconnected", "error", told)
}
