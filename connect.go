package mqtt

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/millrace/mqtt/transport"
)

// This file makes a link: it tries the servers of the configuration, their addresses and
// the protocol versions. handshake.go makes one connection.

// tryDomain tries u. When u is a domain whose SRV records name the servers, it tries
// each of these servers in the order of the records.
func (s *supervisor) tryDomain(u *transport.URL) (*link, error) {
	if !u.SRV() {
		return s.tryServer(u)
	}
	c := s.c
	ctx, cancel := s.attemptContext()
	targets, err := s.targets(ctx, u)
	cancel()
	if err != nil {
		s.tried++
		return nil, &ConnectError{Server: u.String(), Step: string(transport.StepResolve), Err: err}
	}
	var errs []error
	for _, t := range targets {
		l, err := s.tryServer(t)
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
func (s *supervisor) attemptContext() (context.Context, context.CancelFunc) {
	c := s.c
	return context.WithTimeoutCause(c.ctx, c.cfg.connectTimeout,
		&timeoutError{"no connection within " + c.cfg.connectTimeout.String()})
}

// tryServer tries one server, at one of its addresses after the other, within one connect
// timeout.
func (s *supervisor) tryServer(u *transport.URL) (*link, error) {
	c := s.c
	s.tried++
	ctx, cancel := s.attemptContext()
	defer cancel()
	c.setState(StateConnecting)
	creds, err := s.credentials(ctx)
	if err != nil {
		return nil, &ConnectError{Server: u.String(), Step: "credentials", Err: err}
	}
	of := u
	if creds.URL != "" {
		if u, err = transport.Parse(creds.URL); err != nil {
			return nil, &ConnectError{Server: "(of the credentials function)", Step: "credentials", Err: err}
		}
	}
	if err := c.cfg.checkGiven(u, of, &creds); err != nil {
		return nil, &ConnectError{Server: u.String(), Step: "credentials", Err: err}
	}
	creds = creds.withLogin(c.cfg.fixedCredentials, u, of)
	if u.SRV() {
		return s.tryDomainOfCredentials(ctx, u, creds)
	}
	return s.tryHost(ctx, u, creds)
}

// tryDomainOfCredentials tries the servers of a domain that the credentials function
// named, each with an even share of what is left of the attempt.
func (s *supervisor) tryDomainOfCredentials(ctx context.Context, u *transport.URL, creds Credentials) (*link, error) {
	targets, err := s.targets(ctx, u)
	if err != nil {
		return nil, &ConnectError{Server: u.String(), Step: string(transport.StepResolve), Err: err}
	}
	s.tried += len(targets) - 1
	var errs []error
	for i, t := range targets {
		deadline, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(targets)-i))
		l, err := s.tryHost(share, t, creds)
		cancel()
		if err == nil {
			return l, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// tryHost tries the host of u, at one of its addresses after the other.
func (s *supervisor) tryHost(ctx context.Context, u *transport.URL, creds Credentials) (*link, error) {
	c := s.c
	c.emit(Connecting{Server: u.String(), Version: s.versionsOf(u)[0], Attempt: s.failures + 1})
	addresses, err := s.addresses(ctx, u)
	if err != nil {
		return nil, &ConnectError{Server: u.String(), Step: string(transport.StepResolve), Err: err}
	}
	return s.tryAddresses(ctx, u, creds, addresses)
}

// credentials returns the credentials of the next attempt.
func (s *supervisor) credentials(ctx context.Context) (Credentials, error) {
	c := s.c
	if c.cfg.credentials == nil {
		return c.cfg.fixedCredentials, nil
	}
	cr, err := ask(ctx, credentialsFunc, func() (Credentials, error) { return c.cfg.credentials(ctx) })
	if err != nil {
		return cr, err
	}
	check := config{}
	check.checkCredentials(&cr)
	return cr, errors.Join(check.errs...)
}

// targets looks up the servers of u.
func (s *supervisor) targets(ctx context.Context, u *transport.URL) ([]*transport.URL, error) {
	return ask(ctx, srvLookup, func() ([]*transport.URL, error) { return s.c.cfg.dialer.Targets(ctx, u) })
}

// addresses looks up the addresses of u.
func (s *supervisor) addresses(ctx context.Context, u *transport.URL) ([]string, error) {
	return ask(ctx, hostLookup, func() ([]string, error) { return s.c.cfg.dialer.Addresses(ctx, u) })
}

// versionsOf returns the versions to try at u: only the one that worked there, if any did.
func (s *supervisor) versionsOf(u *transport.URL) []Version {
	if v, known := s.versions[u.String()]; known {
		return []Version{v}
	}
	return s.c.cfg.versions
}

// tryVersions makes a link to u at an address of to. It tries the next version when the
// server refuses one.
func (s *supervisor) tryVersions(ctx context.Context, u *transport.URL, creds Credentials, to *addressTry) (*link, error) {
	c := s.c
	key := u.String()
	versions := s.versionsOf(u)
	for i, v := range versions {
		if i > 0 {
			c.emit(Connecting{Server: key, Version: v, Attempt: s.failures + 1})
		}
		a := &attempt{c: c, server: u, version: v, creds: creds, clean: s.clean(v), no: s.links + 1, to: to, speaks5: s.speaks5[key],
			receiveMax: s.receiveMaximum(key)}
		l, err := s.dial(ctx, a, i > 0)
		if a.speaks5 != s.speaks5[key] { // so that false needs no entry
			s.speaks5[key] = a.speaks5
		}
		if err == nil {
			s.versions[key] = v
			if i > 0 {
				c.emit(Downgraded{What: "protocol version", From: versions[0].String(), To: v.String()})
			}
			return l, nil
		}
		c.info("connect failed", "server", key, "version", v.String(), "error", err)
		if i == len(versions)-1 || ctx.Err() != nil || !s.refusedVersion(err) {
			return nil, err
		}
	}
	return nil, nil // not reached: versions is never empty
}

// refusedVersion reports whether err allows trying a lower version.
func (s *supervisor) refusedVersion(err error) bool {
	if errors.Is(err, ErrUnsupportedVersion) {
		return true
	}
	cut, ok := errors.AsType[*noAnswerError](err)
	return ok && s.c.cfg.downgradeOnClose && !cut.speaks5
}

// clean returns the Clean Start or Clean Session flag of the next CONNECT.
func (s *supervisor) clean(v Version) bool {
	cfg := s.c.cfg
	if v != V5 {
		// The same on every link: one link without it would leave a session at the
		// server that does not end.
		return cfg.session == 0
	}
	// Set at the first connect only: afterwards the session at the server is this Conn's,
	// and does not outlive a link by more than its expiry.
	return !s.sessionMayExist && (cfg.session == 0 || cfg.fresh)
}

// paceTime is how long an attempt waits before it repeats a connection that came too soon
// after its last one: some services take one CONNECT of a client a second.
const paceTime = time.Second

// dial makes a link. Before the first one of a fresh session on 3.x it makes the server
// discard the earlier session. second says that the attempt has sent a CONNECT before.
func (s *supervisor) dial(ctx context.Context, a *attempt, second bool) (l *link, err error) {
	cfg := s.c.cfg
	taken := false // the server has just accepted a CONNECT of the same client
	if a.version != V5 && cfg.fresh && cfg.session > 0 && !s.sessionMayExist && !s.discarded {
		if err := a.retryTooSoon(second, false, func() error { return a.discard(ctx) }); err != nil {
			return nil, err
		}
		s.discarded = true
		second, taken = true, true
	}
	err = a.retryTooSoon(second, taken, func() (err error) {
		l, err = a.dial(ctx)
		return err
	})
	return l, err
}

// retryTooSoon makes a connection by connect. When it is the second connection of an
// attempt, and the server refuses or cuts it, connect is called once more paceTime
// later, if the attempt lasts that long: the CONNECT may have come too soon.
func (a *attempt) retryTooSoon(second, taken bool, connect func() error) error {
	err := connect()
	if err == nil || !second || !tooSoon(err, taken) || !a.to.pause(paceTime) {
		return err
	}
	a.c.info("connecting again", "server", a.server.String(), "version", a.version.String(), "error", err)
	return connect()
}

// tooSoon reports whether err may mean that the CONNECTs of the client come too fast.
// taken says that the server has just accepted one, so that an error about the client
// itself may mean so too.
func tooSoon(err error, taken bool) bool {
	switch {
	case errors.Is(err, ErrUnsupportedVersion), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, ErrBadCredentials), errors.Is(err, ErrNotAuthorized), errors.Is(err, ErrClientIDRejected):
		return taken
	}
	if e, ok := errors.AsType[*transport.HandshakeError](err); ok {
		return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable
	}
	_, code := errors.AsType[*ReasonError](err)
	_, frame := errors.AsType[*transport.CloseError](err)
	return code || frame || !transport.Answered(err)
}

// maxReceive is the largest Receive Maximum, and the one of a CONNECT without the property
// (section 3.1.2.11.3). There are no more packet identifiers, so no server can exceed it.
const maxReceive = 65535

// receiveMaximum returns the Receive Maximum that the next CONNECT to server announces.
func (s *supervisor) receiveMaximum(server string) int {
	if s.overran[server] && !s.c.cfg.receiveMaxSet {
		return maxReceive
	}
	return s.c.cfg.receiveMax
}
