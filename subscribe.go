package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Subscribe subscribes to one topic filter and returns when the server has
// granted it. See [Conn.SubscribeMany].
func (c *Conn) Subscribe(ctx context.Context, filter string, opts ...SubscribeOption) (*Subscription, error) {
	o := newSubOptions(opts)
	return c.subscribe(ctx, []Filter{{Filter: filter, QoS: o.qos}}, o)
}

// SubscribeMany subscribes to several filters as one Subscription, in as few
// packets as the server takes. Unless [WithPartial] is given, one refused filter
// fails the call, with a *[SubscribeError] that has the result of each.
//
// The context scopes the subscription: when it ends, the channel closes and the
// filters are unsubscribed, or left at the server when the Conn is ending too or
// its session is kept. Subscribe returns after at most [WithSubscribeTimeout]
// while a link is up; time offline is bounded by the context alone. With
// [WithoutWaiting] it returns at once.
//
// A second subscription to the same filter shares the server's subscription:
// both get every message.
func (c *Conn) SubscribeMany(ctx context.Context, filters []Filter, opts ...SubscribeOption) (*Subscription, error) {
	return c.subscribe(ctx, filters, newSubOptions(opts))
}

func (c *Conn) subscribe(ctx context.Context, filters []Filter, o subOptions) (*Subscription, error) {
	if len(filters) == 0 {
		return nil, invalid("filter list", "", "is empty [MQTT-3.8.3-2]")
	}
	for _, f := range filters {
		if err := o.check(f); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return nil, ErrClosed
	}
	s := newSubscription(c, slices.Clone(filters), o)
	if err := c.routes.add(s); err != nil {
		return nil, err
	}
	if c.isClosing() {
		// finish may have missed it.
		s.end(ErrClosed, true)
		c.routes.markReady(s, ErrClosed)
	}
	stop := context.AfterFunc(ctx, func() { c.subscriptionScopeEnded(ctx, s) })
	c.routes.setStop(s, stop)
	if o.async {
		return s, nil
	}
	if err := c.awaitSubscribed(ctx, s); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// awaitSubscribed waits for the results of s; time without a link does not count.
func (c *Conn) awaitSubscribed(ctx context.Context, s *Subscription) error {
	timer := time.NewTimer(c.cfg.subscribeWait)
	defer timer.Stop()
	for {
		select {
		case <-s.ready:
			return s.Err()
		case <-ctx.Done():
			c.drop(s, context.Cause(ctx))
			return context.Cause(ctx)
		case <-timer.C:
		}
		left := c.routes.patience(s, c.cfg.subscribeWait)
		if left <= 0 {
			err := &timeoutError{fmt.Sprintf("subscribe to %q: no SUBACK within %v", s.name(), c.cfg.subscribeWait)}
			c.drop(s, err)
			return err
		}
		timer.Reset(left)
	}
}

// drop ends s with err and removes it from the server.
func (c *Conn) drop(s *Subscription, err error) {
	c.routes.remove(s)
	s.end(err, false)
	c.routes.markReady(s, err)
}

// subscribed is told when every filter of s has its first result.
func (c *Conn) subscribed(s *Subscription) {
	err := c.routes.verdict(s)
	if err != nil {
		c.routes.remove(s)
		s.end(err, false)
	}
	c.routes.markReady(s, err)
}

// verdict returns why s as a whole failed, nil when it did not.
func (t *routes) verdict(s *Subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	refused := 0
	for _, r := range s.results {
		if r.Err != nil {
			refused++
		}
	}
	if refused == 0 || s.opts.partial && refused < len(s.results) {
		return nil
	}
	return &SubscribeError{Results: slices.Clone(s.results)}
}

// markReady lets Subscribe return.
func (t *routes) markReady(s *Subscription, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.settled = true
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

// setStop keeps what stops the watch on the context of s.
func (t *routes) setStop(s *Subscription, stop func() bool) {
	s.mu.Lock()
	s.stop = stop
	ended := s.ended
	s.mu.Unlock()
	if ended {
		stop()
	}
}

// patience returns how much longer Subscribe may wait for s.
func (t *routes) patience(s *Subscription, limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.asked.IsZero() {
		return limit
	}
	return limit - time.Since(s.asked)
}

// overdue returns a filter whose SUBSCRIBE has waited longer than limit on this
// link, and which no caller of Subscribe waits for.
func (t *routes) overdue(now time.Time, limit time.Duration) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.filters {
		if r.state == routeAsked && now.Sub(r.asked) > limit && slices.ContainsFunc(r.members, func(s *Subscription) bool { return s.settled || s.opts.async }) {
			return r.filter, true
		}
	}
	return "", false
}

// subscriptionScopeEnded ends s because the context given to Subscribe ended.
// When the Conn ends too, or its session is kept, the server keeps the filters.
func (c *Conn) subscriptionScopeEnded(ctx context.Context, s *Subscription) {
	err := fmt.Errorf("mqtt: the context given to Subscribe ended: %w", context.Cause(ctx))
	durable := c.cfg.session > 0
	detach := s.opts.atEnd == endDetach || s.opts.atEnd == endDefault && durable
	if c.isClosing() || c.scopeIsEnding() {
		s.end(err, durable)
		return
	}
	if detach {
		c.detach(s, err)
		return
	}
	c.routes.remove(s)
	s.end(err, false)
	c.routes.markReady(s, err)
	c.afterEnd(s)
}

// scopeIsEnding reports whether the context given to Connect has ended, even if
// its watch did not run yet.
func (c *Conn) scopeIsEnding() bool { return c.scope.Err() != nil }

// detach ends s and leaves its filters at the server. When the Conn lives on
// and nobody subscribes to a filter within a grace, it is unsubscribed.
func (c *Conn) detach(s *Subscription, err error) {
	c.routes.detach(s)
	s.end(err, false)
	c.routes.markReady(s, err)
	c.afterEnd(s)
}

func (t *routes) detach(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.routed = false
	for _, f := range s.filters {
		r := t.filters[f.Filter]
		if r == nil {
			continue
		}
		if i := slices.Index(r.members, s); i >= 0 {
			r.members = slices.Delete(r.members, i, i+1)
		}
		if len(r.members) == 0 && r.detached == nil {
			r.detached = t.conn.later(detachGrace, func() { t.giveUp(r) })
		}
	}
	t.changed()
}

// giveUp unsubscribes a detached filter that nobody wanted.
func (t *routes) giveUp(r *route) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.filters[r.filter] == r && len(r.members) == 0 {
		t.drop(r)
		t.changed()
		t.unsubscribe([]string{r.filter})
	}
}

// afterEnd acknowledges, after a grace, what the application was given and never
// acknowledged: it would hold up everything behind it.
func (c *Conn) afterEnd(s *Subscription) {
	if !s.opts.manual {
		return
	}
	c.later(c.cfg.ackGrace, func() {
		if n := c.ledger.abandon(s); n > 0 {
			c.emit(MessageDropped{Topic: s.name(), Err: ErrStale, Total: uint64(n)})
			c.ledger.settle()
		}
	})
}

// unsubscribe is Subscription.Unsubscribe.
func (c *Conn) unsubscribe(ctx context.Context, s *Subscription) error {
	p := c.routes.remove(s)
	s.end(ErrUnsubscribed, false)
	c.routes.markReady(s, ErrUnsubscribed)
	c.afterEnd(s)
	return p.wait(ctx)
}

// wait waits for the answer to an UNSUBSCRIBE. A lost link is no error: the
// server is told on the next.
func (p *pendingUnsubscribe) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		if errors.Is(p.err, ErrLinkLost) {
			return nil
		}
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Unsubscribe removes filters from the server in one packet, also filters that
// this Conn did not subscribe itself. Subscriptions of this Conn that consist of
// these filters alone end with [ErrUnsubscribed]. It returns one result for each
// filter, when a link is up; without one the server is told on the next.
func (c *Conn) Unsubscribe(ctx context.Context, filters ...string) ([]SubscribeResult, error) {
	if len(filters) == 0 {
		return nil, invalid("filter list", "", "is empty [MQTT-3.10.3-2]")
	}
	var o subOptions
	for _, f := range filters {
		if err := o.check(Filter{Filter: f}); err != nil {
			return nil, err
		}
	}
	if c.isClosing() {
		return nil, ErrClosed
	}
	p, ended := c.routes.removeFilters(filters)
	for _, s := range ended {
		s.end(ErrUnsubscribed, false)
		c.routes.markReady(s, ErrUnsubscribed)
		c.afterEnd(s)
	}
	err := p.wait(ctx)
	if p == nil || err != nil && ctx.Err() != nil {
		return nil, err
	}
	return p.results, err
}

// removeFilters takes filters out, whoever has them.
func (t *routes) removeFilters(filters []string) (*pendingUnsubscribe, []*Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ended []*Subscription
	for _, f := range filters {
		r := t.filters[f]
		if r == nil {
			continue
		}
		for _, s := range slices.Clone(r.members) {
			t.leave(s, r)
			if !t.hasRoute(s) {
				s.routed = false
				ended = append(ended, s)
			}
		}
		if t.filters[f] == r {
			t.drop(r) // detached
		}
	}
	t.changed()
	return t.unsubscribe(filters), ended
}

// Subscription returns the subscription that [WithSubscription] declared for
// filter, or nil.
func (c *Conn) Subscription(filter string) *Subscription { return c.declared[filter] }

// CatchAll returns the subscription to everything that comes and matches no
// other: one for the Conn, the options count at the first call. It asks the
// server for nothing.
func (c *Conn) CatchAll(opts ...SubscribeOption) *Subscription {
	s := c.routes.openCatchAll(opts)
	if c.isClosing() {
		s.end(ErrClosed, true) // finish may have missed it
	}
	return s
}

func (t *routes) openCatchAll(opts []SubscribeOption) *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catch == nil {
		t.catch = newCatchAll(t.conn, newSubOptions(opts))
	}
	return t.catch
}

func newCatchAll(c *Conn, o subOptions) *Subscription {
	s := newSubscription(c, nil, o)
	s.settled = true
	close(s.ready)
	return s
}

// catchAll returns the catch-all subscription, nil when there is none.
func (t *routes) catchAll() *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.catch
}
