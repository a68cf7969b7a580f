package mqtt

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/millrace/mqtt/transport"
)

// paceTime is how long an attempt waits before it makes again a connection that came
// too soon behind its last one: services limit CONNECTs to one a second.
const paceTime = time.Second

// dial makes a link, and before the first one of a fresh session on 3.x has the
// server discard what it kept. second says that the attempt has sent a CONNECT before.
func (s *supervisor) dial(ctx context.Context, a *attempt, second bool) (l *link, err error) {
	cfg := s.c.cfg
	taken := false // the server has just taken a CONNECT of the same client
	if a.version != V5 && cfg.fresh && cfg.session > 0 && !s.existed && !s.fresh {
		if err := a.paced(second, false, func() error { return a.discard(ctx) }); err != nil {
			return nil, err
		}
		s.fresh = true
		second, taken = true, true
	}
	err = a.paced(second, taken, func() (err error) {
		l, err = a.dial(ctx)
		return err
	})
	return l, err
}

// paced makes a connection by connect. The second one of an attempt that is refused
// or cut is made again a second later, once, if the attempt lasts that long: the
// server may have meant that it came too soon.
func (a *attempt) paced(second, taken bool, connect func() error) error {
	err := connect()
	if err == nil || !second || !tooSoon(err, taken) || !a.to.pause(paceTime) {
		return err
	}
	a.c.info("connecting again", "server", a.server.String(), "version", a.version.String(), "error", err)
	return connect()
}

// tooSoon reports whether err may be what a server says to a client whose CONNECTs
// come too fast. taken says that it has just taken one, so that it has nothing
// against the client itself.
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
