package mqtt

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Subscribe subscribes to one topic filter and returns when the server has granted it.
// [QoS] sets the maximum QoS, 1 by default.
//
// The context scopes the subscription and not only the call: when it ends, the channel
// closes and the filter is unsubscribed, or left at the server when the Conn is ending
// too or its session is kept. Subscribe returns after at most [WithSubscribeTimeout]
// while a link is up; the context alone bounds the time offline. With [WithoutWaiting]
// it returns at once.
//
// The error is an *[InvalidError] for what was given, before any I/O, a *[SubscribeError]
// when the server refuses the filter, the context's cause, or [ErrClosed]. Some servers
// cut the link at a SUBSCRIBE instead of refusing the filter. Such a filter is found after
// at most six links: its result in the *[SubscribeError] is a *[SetAsideError], and a
// [FilterSetAside] event names it. A subscription at which the server begins to cut later
// ends with that error too.
//
// A second subscription to the same filter shares the server's subscription: both get
// every message.
//
// Messages of a resumed session that are held and match come first, in order (see
// [WithBacklogGrace]). Those that the subscription has not handed over when it ends or
// fails are acknowledged and counted like its others, unless [WithInbox] keeps them.
func (c *Conn) Subscribe(ctx context.Context, filter string, opts ...SubscribeOption) (*Subscription, error) {
	o := newSubOptions(opts)
	return c.subscribe(ctx, []Filter{{Pattern: filter, QoS: o.qos}}, o)
}

// SubscribeMany is [Conn.Subscribe] for several filters as one Subscription, in as few
// packets as the server takes. Unless [WithPartialSuccess] is given, one refused filter
// fails the call, with a *[SubscribeError] that has the result of each.
func (c *Conn) SubscribeMany(ctx context.Context, filters []Filter, opts ...SubscribeOption) (*Subscription, error) {
	return c.subscribe(ctx, filters, newSubOptions(opts))
}

// Subscription returns the subscription that [WithSubscription] declared for
// filter, or nil.
func (c *Conn) Subscription(filter string) *Subscription { return c.declared[filter] }

// CatchAll returns the subscription to everything that comes and matches no
// other: one for the Conn, the options count at the first call, and again once
// it has ended. It asks the server for nothing. With a nil option it returns a
// subscription that has ended with an [InvalidError].
func (c *Conn) CatchAll(opts ...SubscribeOption) *Subscription {
	o := newSubOptions(opts)
	if o.err != nil {
		s := newCatchAll(c.up, o)
		s.end(o.err, leaveAcked)
		return s
	}
	s := c.routes.openCatchAll(o)
	if c.isClosing() {
		// finish may have gone through the subscriptions before s was one of them.
		c.retire(s, ErrClosed, leaveServer)
		return s
	}
	s.setReturned()
	return s
}

// Unsubscribe removes filters from the server, also filters that this Conn did
// not subscribe itself, in as few packets as the server takes. A Subscription of
// this Conn loses these filters, and ends with [ErrUnsubscribed] when it has no
// other; a filter that the server has not answered for has that error as its
// result. It returns one result for each filter, when a link is up; without one
// UNSUBSCRIBE is sent on the next.
func (c *Conn) Unsubscribe(ctx context.Context, filters ...string) ([]SubscribeResult, error) {
	if len(filters) == 0 {
		return nil, invalid("filter list", "", "is empty [MQTT-3.10.3-2]")
	}
	var o subOptions
	for _, f := range filters {
		if err := o.check(Filter{Pattern: f}); err != nil {
			return nil, err
		}
	}
	if c.isClosing() {
		return nil, ErrClosed
	}
	if err := c.routes.unsubscribable(filters); err != nil {
		return nil, err
	}
	p, settled, ended := c.routes.removeFilters(slices.Clone(filters))
	for _, s := range ended {
		c.retire(s, ErrUnsubscribed, leaveAcked)
	}
	c.tellSubscribed(settled, nil)
	err := p.wait(ctx)
	if p == nil || err != nil && ctx.Err() != nil {
		return nil, err
	}
	return p.results, err
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
	if c.isClosing() {
		return nil, ErrClosed
	}
	c.endOutlived(filters)
	s := newSubscription(c.up, slices.Clone(filters), o)
	s.ctx = ctx
	if err := c.routes.add(s); err != nil {
		return nil, err
	}
	if c.isClosing() {
		// finish may have gone through the subscriptions before s was one of them.
		c.retire(s, ErrClosed, leaveServer)
		return nil, ErrClosed
	}
	if !o.async {
		if err := c.awaitSubscribed(ctx, s); err != nil {
			return nil, err
		}
	}
	s.setReturned()
	s.scope(context.AfterFunc(ctx, func() { c.subscriptionScopeEnded(ctx, s) }))
	return s, nil
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
			c.lose(s, context.Cause(ctx))
			return context.Cause(ctx)
		case <-timer.C:
		}
		left := c.routes.subscribeTimeLeft(s, c.cfg.subscribeWait)
		if left <= 0 {
			err := &timeoutError{fmt.Sprintf("subscribe to %q: no SUBACK within %v", s.name(), c.cfg.subscribeWait)}
			c.lose(s, err)
			return err
		}
		timer.Reset(max(left, patienceStep)) // offline, what is left stays
	}
}

// patienceStep is the shortest time after which awaitSubscribed looks again.
const patienceStep = 100 * time.Millisecond

// subscriptionScopeEnded ends s because the context given to Subscribe ended.
// When the Conn ends too, or its session is kept, the server keeps the filters.
func (c *Conn) subscriptionScopeEnded(ctx context.Context, s *Subscription) {
	err := fmt.Errorf("mqtt: the context given to Subscribe ended: %w", context.Cause(ctx))
	durable := c.cfg.session > 0
	detach := s.opts.atEnd == endDetach || s.opts.atEnd == endDefault && durable
	if c.isClosing() || c.scopeIsEnding() {
		leave := leaveAcked
		if durable {
			leave = leaveServer
		}
		c.retire(s, err, leave)
		return
	}
	if detach && !c.routes.isDraining(s) {
		c.detach(s, err)
		return
	}
	c.drop(s, err)
}

// scopeIsEnding reports whether the context given to Connect has ended, even if
// its watch did not run yet.
func (c *Conn) scopeIsEnding() bool { return c.scope.Err() != nil }

// detach ends s and leaves its filters at the server. When the Conn lives on
// and no Subscribe of a filter comes within a grace, it is unsubscribed.
func (c *Conn) detach(s *Subscription, err error) {
	if c.cfg.backlogGrace <= 0 {
		c.lose(s, err)
		return
	}
	s.withdraw()
	h := c.routes.replaceByPlaceholder(s)
	c.retire(s, err, leaveInbox)
	if h == nil {
		return
	}
	c.later(c.cfg.backlogGrace, func() {
		if c.draining.Load() {
			return // the server sends it again
		}
		c.lose(h, err)
		if c.inbox != nil {
			c.inbox.countUnclaimedAnew()
		}
	})
}

// endOutlived ends the subscriptions of filters whose context has ended, which may
// not have been noticed yet, so that a new one takes over from them.
func (c *Conn) endOutlived(filters []Filter) {
	for _, s := range c.routes.outlived(filters) {
		c.subscriptionScopeEnded(s.ctx, s)
	}
}
