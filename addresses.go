package mqtt

import (
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// addressOrder remembers the results of the addresses of one server. The next attempt
// begins behind the address that failed, so that each address has the large share of the
// time once. When all its addresses refuse the version, the server refuses it.
type addressOrder struct {
	failed  []string // addresses that had a share of the time and failed, the longest ago first
	refused []string // addresses whose last answer, since the last link, refused the version
}

// arrange returns found with the addresses that failed at the end. It forgets addresses
// that are not in found.
func (o *addressOrder) arrange(found []string) []string {
	gone := func(a string) bool { return !slices.Contains(found, a) }
	o.failed = slices.DeleteFunc(o.failed, gone)
	o.refused = slices.DeleteFunc(o.refused, gone)
	var first []string
	for _, a := range found {
		if !slices.Contains(o.failed, a) {
			first = append(first, a)
		}
	}
	return append(first, o.failed...)
}

// outcome is the result of trying one address; err is nil for a link.
type outcome struct {
	address string
	err     error
}

// learn takes the outcomes of one attempt, in the order in which the addresses were tried.
// When none answered, only the first address has had the large share of the time.
func (o *addressOrder) learn(tried []outcome) {
	for i, t := range tried {
		o.refused = without(o.refused, t.address)
		refuses, fine := errors.Is(t.err, ErrUnsupportedVersion), answered(t.err)
		if refuses {
			o.refused = append(o.refused, t.address)
		}
		if t.err == nil {
			o.refused = nil // refusals from before this link may be out of date
		}
		behind := refuses || !fine && (i == 0 || answered(tried[len(tried)-1].err))
		if fine || behind {
			o.failed = without(o.failed, t.address)
		}
		if behind {
			o.failed = append(o.failed, t.address)
		}
	}
}

// without removes one from all.
func without(all []string, one string) []string {
	return slices.DeleteFunc(all, func(a string) bool { return a == one })
}

// refuses reports whether all of the addresses refuse the version.
func (o *addressOrder) refuses(addresses []string) bool {
	return len(o.refused) > 0 && len(o.refused) >= len(addresses)
}

// addressTry is the part of an attempt that has one address: its share of the time, and
// the address, once one has accepted the socket. Every further connection of the part goes
// to that address.
type addressTry struct {
	left   []string // the addresses that may be tried
	used   string   // the address that accepted, empty before
	ctx    context.Context
	cancel context.CancelFunc
}

// share returns the context of the part. Its share of the time begins with the first call.
func (r *addressTry) share(ctx context.Context) context.Context {
	if r.ctx == nil {
		r.ctx, r.cancel = transport.Share(ctx, len(r.left))
	}
	return r.ctx
}

// end releases the context of share.
func (r *addressTry) end() {
	if r.cancel != nil {
		r.cancel()
	}
}

// dial makes the network connection, to the address that accepted before if one did.
func (r *addressTry) dial(ctx context.Context, d *transport.Dialer, u *transport.URL) (net.Conn, error) {
	to := r.left
	if r.used != "" {
		to = []string{r.used}
	}
	nc, used, err := d.DialAddresses(ctx, u, to)
	if used != "" {
		r.used = used
	}
	return nc, err
}

// pause waits for d, if the share lasts longer than that, and reports whether it did.
func (r *addressTry) pause(d time.Duration) bool {
	if deadline, ok := r.ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// answered reports whether the server answered, by a link or a refusal, so that another of
// its addresses would answer the same: with a CONNACK, except one for a server that is
// unavailable or busy, or below MQTT as transport.Answered reports.
func answered(err error) bool {
	if e, ok := errors.AsType[*ReasonError](err); ok {
		if e.Version != V5 {
			return e.Code != 3 // server unavailable
		}
		return e.Code != codec.ServerUnavailable && e.Code != codec.ServerBusy
	}
	return transport.Answered(err)
}

// tryAddresses makes a link to u by one of the addresses found for it, within ctx.
func (s *supervisor) tryAddresses(ctx context.Context, u *transport.URL, creds Credentials, found []string) (*link, error) {
	order := s.order(u)
	var l *link
	var tried []outcome
	err := transport.Walk(ctx, order.arrange(found), answered, func(left []string) (string, error) {
		to := &addressTry{left: left}
		defer to.end()
		var err error
		l, err = s.tryVersions(ctx, u, creds, to)
		switch e, _ := errors.AsType[*ConnectError](err); {
		case to.used != "":
			for _, a := range left[:slices.Index(left, to.used)] {
				tried = append(tried, outcome{a, context.DeadlineExceeded}) // refused, or too slow
			}
			tried = append(tried, outcome{to.used, err})
		case e != nil && e.Step == string(transport.StepDial):
			tried = append(tried, outcome{left[0], err})
		}
		return to.used, err
	})
	order.learn(tried)
	if n := len(tried); n > 0 && errors.Is(tried[n-1].err, ErrUnsupportedVersion) && order.refuses(found) {
		s.refused++
	}
	return l, err
}

// order returns the order of the addresses of u.
func (s *supervisor) order(u *transport.URL) *addressOrder {
	key := u.String()
	if s.orders[key] == nil {
		s.orders[key] = &addressOrder{}
	}
	return s.orders[key]
}
