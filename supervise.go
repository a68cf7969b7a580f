package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
)

// supervisor has the state of the Conn's supervising goroutine: which server comes next,
// how often attempts failed, and why links ended.
type supervisor struct {
	c               *Conn
	next            int                // index of the server to try next
	versions        map[string]Version // that worked, by server
	speaks5         map[string]bool    // servers that have sent a packet of MQTT 5.0
	overran         map[string]bool    // servers that exceeded our Receive Maximum
	orders          map[string]*addressOrder
	tried           int              // servers tried in the last round
	refused         int              // those of them that refuse every version
	failures        int              // attempts since the last stable link
	youngDeaths     int              // links in a row that ended young (within probeTime), or because of a packet, it seems
	faults          map[faultKey]int // young links that ended because of a message that can be dropped
	lastFault       string           // protocol error of the last link, which ended young
	sameFaults      int              // how many links in a row ended because of it
	lastUp          time.Duration    // how long the last link was up
	first           chan<- error     // gets the result of the first connect; nil afterwards
	links           uint32           // number of the last link
	sessionMayExist bool             // at the server: no Clean Start on 5.0 any more
	discarded       bool             // an earlier session was discarded at a 3.x server
	ended           bool
}

func newSupervisor(c *Conn, first chan<- error) *supervisor {
	return &supervisor{
		c: c, versions: map[string]Version{}, speaks5: map[string]bool{}, orders: map[string]*addressOrder{}, first: first,
	}
}

// supervise is the Conn's supervising goroutine: it makes one link after the other until
// the Conn closes or an error ends it.
func (s *supervisor) supervise() {
	defer s.exited()
	s.end(s.loop())
}

// end ends the Conn because of err.
func (s *supervisor) end(err error) {
	s.c.finish(err)
	s.reportFirst(err)
	s.ended = true
}

// reportFirst tells Connect, once, how the first connect went.
func (s *supervisor) reportFirst(err error) {
	if s.first != nil {
		s.first <- err
		s.first = nil
	}
}

// loop makes links until the Conn has to end, and returns the reason.
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
	switch s.askPolicy(err) {
	case DecideRetry:
		return false
	case DecideStop:
		return true
	}
	if s.c.ctx.Err() != nil {
		return false // the policy closed the Conn, which is the reason of its end then
	}
	if s.first != nil && cfg.firstConnect == FirstConnectFail {
		return true
	}
	if s.sameFaults >= deathLimit {
		return true
	}
	if errors.Is(err, ErrTakenOver) {
		return !cfg.reconnectAfterTakeover
	}
	// The error of a round joins those of its servers. When one refuses the version,
	// another may only be unreachable for now.
	return s.refused > 0 && s.refused == s.tried && s.links > 0
}

// wait sleeps before the next attempt. It returns an error when the Conn is to end.
func (s *supervisor) wait(cause error) error {
	c := s.c
	if s.lastUp >= c.cfg.stableAfter {
		s.failures = 0
	}
	if errors.Is(cause, errLocalClose) { // Reconnect was asked for, which is no failure
		s.lastUp = 0
		select {
		case <-c.retryNow: // the token of the same Reconnect
		default:
		}
		return nil
	}
	s.failures++
	delay, goOn := s.askBackoff(backoff.Attempt{N: s.failures, Err: cause, Up: s.lastUp})
	s.lastUp = 0
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx) // a policy may have closed the Conn
	}
	if !goOn {
		return cause
	}
	c.setState(StateWaiting)
	c.emit(Retrying{Attempt: s.failures, Delay: delay, Err: cause})
	c.info("retrying", "attempt", s.failures, "delay", delay, "error", cause)
	slept, err := s.waitDelay(delay)
	if slept >= longSleep {
		// The network may need a moment to come back too: begin with the short delays.
		s.failures = 0
		c.info("the machine slept", "for", slept)
	}
	return err
}

const (
	// sleepCheck is how often a wait for the next attempt checks whether the machine
	// slept: a timer stands still while it sleeps.
	sleepCheck = 2 * time.Second
	// longSleep is the sleep of the machine that ends a backoff.
	longSleep = 10 * time.Second
)

// waitDelay waits for delay before the next attempt, or until Reconnect asks for it, and
// returns how long the machine slept meanwhile. Sleep counts towards the delay, and a
// long sleep ends it. It returns an error when the Conn is to end.
func (s *supervisor) waitDelay(delay time.Duration) (slept time.Duration, err error) {
	c := s.c
	began, up := time.Now(), c.cfg.clock.uptime()
	timer := time.NewTimer(min(delay, sleepCheck))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.retryNow:
			return 0, nil
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		}
		passed := c.cfg.clock.uptime() - up // read first, so that slept is never too long
		awake := time.Since(began)
		slept = max(0, passed-awake)
		left := delay - awake - slept
		if slept >= longSleep || left <= 0 {
			return slept, nil
		}
		timer.Reset(min(left, sleepCheck))
	}
}

// askPolicy calls the error policy with err. When it does not return the default counts.
func (s *supervisor) askPolicy(err error) Decision {
	policy := s.c.cfg.onError
	if policy == nil {
		return DecideDefault
	}
	d, e := apart(s.c.ctx.Done(), errorPolicy, func() (Decision, error) { return policy(err), nil })
	s.logExit(e)
	return d
}

// backoffAnswer is the result of a backoff policy.
type backoffAnswer struct {
	delay time.Duration
	goOn  bool
}

// askBackoff calls the backoff policy, unless the Conn has to end. When the policy does
// not return the default policy counts.
func (s *supervisor) askBackoff(a backoff.Attempt) (time.Duration, bool) {
	c := s.c
	if c.ctx.Err() != nil {
		return 0, false
	}
	r, err := apart(c.ctx.Done(), backoffPolicy, func() (r backoffAnswer, err error) {
		r.delay, r.goOn = c.cfg.backoff.Delay(a)
		return r, nil
	})
	if err != nil {
		s.logExit(err)
		return backoff.Exponential{}.Delay(a)
	}
	return r.delay, r.goOn
}

// logExit logs that a policy ended its goroutine, when err says so.
func (s *supervisor) logExit(err error) {
	if e, ok := errors.AsType[*CallbackError](err); ok && e.Exited {
		s.c.record(slog.LevelWarn, "a function ended its goroutine", "client", s.c.ClientID(), "function", e.Function)
	}
}

// round tries every server once, beginning with the one after the last that failed, and
// returns the first link. Its error joins those of the servers.
func (s *supervisor) round() (*link, error) {
	s.tried, s.refused = 0, 0
	var errs []error
	n := len(s.c.cfg.servers)
	for range n {
		l, err := s.tryDomain(s.c.cfg.servers[s.next%n])
		if err == nil {
			s.tried, s.refused = 0, 0
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

// run makes l the link of the Conn, runs it until it ends and returns the reason.
func (s *supervisor) run(l *link) error {
	c := s.c
	s.links++
	l.no = s.links
	probe := s.youngDeaths >= youngBeforeProbe
	l.probe = probe
	c.stats.links.Add(1)
	c.events.setLink(l.no)
	first := s.links == 1 && !c.restored
	s.sessionMayExist = true
	if !s.linkUp(l, first && l.agreed.sessionPresent) {
		if c.endsInOrder() {
			// The server has accepted the connection, and the will with it.
			_ = c.endUnused(c.aborted, l.nc, l.version, codec.Success, l.no, c.unusedBy())
		}
		l.closeSocket()
		waitUntil(time.Now().Add(killTime), l.closeReturned)
		return context.Cause(c.ctx)
	}
	if probe {
		// Not by later, which Close stops: pending publishes have to be sent before Close
		// ends the link.
		silence := time.AfterFunc(probeTime, func() { c.out.endSilence(&l.sender) })
		defer silence.Stop()
	}
	select {
	case <-c.retryNow: // the token of a Reconnect while this link was being made
	default:
	}
	s.reportFirst(nil)
	stop := context.AfterFunc(c.ctx, func() { l.kill(errLocalClose) })
	err := l.run()
	stop()
	s.linkDown(l, err)
	s.noteOverrun(l, err)
	s.lastUp = time.Since(l.began)
	s.learn(l, err)
	return err
}

// linkUp makes l the current link and the session agree with its CONNACK. foreign says
// that the server resumed a session that this process does not know. linkUp returns false
// when the Conn is closing.
func (s *supervisor) linkUp(l *link, foreign bool) bool {
	c := s.c
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	if id := l.agreed.assignedID; id != "" && c.ClientID() == "" {
		c.clientID.Store(&id)
	}
	c.link = l
	c.mu.Unlock()

	c.ledger.up(l.no, l.version, l.agreed.sessionPresent, announcedMaximum(l))
	var random uint16
	if foreign {
		// Answers to an earlier process may still arrive: begin with other identifiers.
		random = uint16(1 + rand.IntN(65535))
	}
	t := c.routes
	var settled []*Subscription
	var lost []lostRoute
	t.mu.Lock()
	c.out.up(&l.sender, l.agreed.sessionPresent, random, func() {
		settled, lost = t.upLocked(&l.agreed, c.cfg.resubscribeAlways, l.probe, c.out.sendControlLocked)
	})
	grace := t.beginBacklogLocked(l.no, l.agreed.sessionPresent)
	t.mu.Unlock()
	if grace {
		c.later(c.cfg.backlogGrace, func() { c.endBacklog(l.no) })
	}
	c.setState(StateConnected)
	c.emit(connectedEvent(l, c.ClientID()))
	c.info("connected", "server", l.server, "version", l.version.String(), "session", l.agreed.sessionPresent)
	if foreign {
		c.emit(SessionResumed{})
	}
	s.reportDowngrades(l)
	c.tellSubscribed(settled, lost)
	return true
}

// announcedMaximum returns the Receive Maximum that the CONNECT of l announced, 0 on 3.x,
// which has none.
func announcedMaximum(l *link) int {
	if l.version != V5 {
		return 0
	}
	return l.agreed.ourReceiveMaximum
}

// reportDowngrades emits an event for each thing of which the server grants less than
// was asked for.
func (s *supervisor) reportDowngrades(l *link) {
	c := s.c
	if l.version == V5 && l.agreed.sessionExpiry < c.cfg.session {
		c.emit(Downgraded{What: "session expiry", From: lifetime(c.cfg.session), To: lifetime(l.agreed.sessionExpiry), Temporary: true})
	}
	if p := c.cfg.connectProps; l.version != V5 && (p.Present != 0 || len(p.User) > 0) {
		c.emit(Downgraded{What: "CONNECT properties", From: V5.String(), To: l.version.String(), Temporary: true})
	}
}

// connectedEvent returns the event for l.
func connectedEvent(l *link, id string) Connected {
	g := &l.agreed
	return Connected{
		Server: l.server, Address: l.address, Version: l.version, SessionPresent: l.connack.SessionPresent, ClientID: id,
		KeepAlive: g.keepAlive, SessionExpiry: g.sessionExpiry, ReceiveMaximum: g.receiveMaximum,
		MaximumPacketSize: g.maximumPacket, MaximumQoS: g.maximumQoS, RetainAvailable: !g.noRetain,
		WildcardAvailable: !g.noWildcard, SharedAvailable: !g.noShared, Connack: l.connack,
	}
}

// linkDown makes the Conn have no link after the goroutines of l have ended.
func (s *supervisor) linkDown(l *link, cause error) {
	c := s.c
	c.mu.Lock()
	c.link = nil
	c.mu.Unlock()
	reported := cause
	if errors.Is(cause, errLocalClose) {
		reported = ErrClosed
	}
	c.out.down(&l.sender, reported)
	c.routes.down()
	c.setState(StateWaiting)
	c.emit(Disconnected{Err: reported, Up: time.Since(l.began)})
	c.info("disconnected", "error", reported)
}

// exited ends the Conn when the supervisor's goroutine ended by runtime.Goexit, as a method
// of the application's net.Conn that is called outside of an attempt could do.
func (s *supervisor) exited() {
	if s.ended {
		return
	}
	if p := recover(); p != nil {
		panic(p)
	}
	s.end(&CallbackError{Function: dialedConn, Exited: true})
}
