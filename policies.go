package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/transport"
)

// This file asks functions of the application for the answers that the supervisor needs.
// It waits for them until the Conn has to end, and no longer.

// askPolicy asks the error policy about err. Without an answer the library decides.
func (s *supervisor) askPolicy(err error) Decision {
	policy := s.c.cfg.onError
	if policy == nil {
		return DecideDefault
	}
	d, e := apart(s.c.ctx.Done(), errorPolicy, func() (Decision, error) { return policy(err), nil })
	s.logExit(e)
	return d
}

// backoffAnswer is what a backoff policy says.
type backoffAnswer struct {
	delay time.Duration
	goOn  bool
}

// askBackoff asks the backoff policy, unless the Conn has to end. Without an answer the
// default policy counts.
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

// logExit logs that a function whose answer was not needed ended its goroutine.
func (s *supervisor) logExit(err error) {
	if e, ok := errors.AsType[*CallbackError](err); ok && e.Exited {
		s.c.record(slog.LevelWarn, "a function ended its goroutine", "client", s.c.ClientID(), "function", e.Function)
	}
}

// ask is apart for a function that ctx bounds.
func ask[T any](ctx context.Context, name string, f func() (T, error)) (T, error) {
	answer, err := apart(ctx.Done(), name, f)
	if e, ok := err.(*CallbackError); ok && !e.Exited {
		e.Err = context.Cause(ctx)
	}
	return answer, err
}

// targets looks up the servers of u.
func (s *supervisor) targets(ctx context.Context, u *transport.URL) ([]*transport.URL, error) {
	return ask(ctx, srvLookup, func() ([]*transport.URL, error) { return s.c.cfg.dialer.Targets(ctx, u) })
}

// addresses looks up the addresses of u.
func (s *supervisor) addresses(ctx context.Context, u *transport.URL) ([]string, error) {
	return ask(ctx, hostLookup, func() ([]string, error) { return s.c.cfg.dialer.Addresses(ctx, u) })
}

// exited ends the Conn of a supervisor whose goroutine ended, as a method of a net.Conn
// could do that is called outside of an attempt.
func (s *supervisor) exited() {
	if s.ended {
		return
	}
	if p := recover(); p != nil {
		panic(p)
	}
	s.end(&CallbackError{Function: dialedConn, Exited: true})
}
