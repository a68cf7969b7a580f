package mqtt

import (
	"slices"
	"time"
)

// detachGrace is how long a detached filter waits for a new Subscribe.
const detachGrace = 10 * time.Second

// A subscription that is detached leaves its filters at the server. Its place
// in the routes is taken by a holder: a Subscription that nobody reads, which
// takes over what is pending and collects what arrives, unacknowledged, until a
// new Subscribe of a filter claims it or the grace is over ("decided" 13).

// detach ends s and leaves its filters at the server. When the Conn lives on
// and nobody subscribes to a filter within a grace, it is unsubscribed.
func (c *Conn) detach(s *Subscription, err error) {
	h := c.routes.hold(s)
	if h == nil {
		c.retire(s, err, false)
		return
	}
	c.retire(s, err, false)
	c.later(detachGrace, func() {
		c.routes.remove(h)
		c.retire(h, err, false)
		if n := h.dropped.Load(); n > 0 {
			c.emit(MessageDropped{Topic: h.name(), Err: err, Total: n})
		}
	})
}

// hold puts a holder in the place of s, and returns it; nil when s has no route.
func (t *routes) hold(s *Subscription) *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.routed {
		return nil
	}
	s.routed = false
	h := newSubscription(t.conn, s.filters, s.opts)
	h.holder, h.routed, h.settled = true, true, true
	for _, f := range s.filters {
		if r := t.filters[f.Filter]; r != nil {
			for i := range r.members {
				if r.members[i].sub == s {
					r.members[i].sub = h
				}
			}
		}
	}
	s.bequeath("", h)
	t.changed()
	return h
}

// claim gives s what holders of r hold for its filter, in their place. mu is held.
func (t *routes) claim(r *route, s *Subscription) {
	for _, m := range slices.Clone(r.members) {
		if m.sub.holder {
			m.sub.bequeath(r.filter, s)
			r.members = slices.DeleteFunc(r.members, func(o member) bool { return o.sub == m.sub })
		}
	}
}

// heir takes the messages of a subscription whose topic a filter matches.
type heir struct {
	filter string // empty for all
	sub    *Subscription
}

func (h *heir) takes(m *Message) bool {
	if h.filter == "" {
		return true
	}
	_, rest := splitShared(h.filter)
	return meet(rest, m.Topic)
}

// bequeath moves what s holds for filter, all if it is empty, to the subscription
// to; what arrives by way of s follows.
func (s *Subscription) bequeath(filter string, to *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := heir{filter, to}
	s.heirs = append(s.heirs, h)
	for _, m := range s.box.cutAll(h.takes) {
		s.pass(&m, to)
		to.mu.Lock()
		to.box.push(&m, time.Now())
		to.mu.Unlock()
	}
	to.mu.Lock()
	to.startPumps()
	to.wakeIterators()
	to.mu.Unlock()
	s.madeRoom()
}

// pass makes m one of to. s.mu is held.
func (s *Subscription) pass(m *Message, to *Subscription) {
	if m.QoS > 0 {
		s.conn.ledger.transfer(m.ref>>refShift, m.id, s, to)
	}
	m.sub = to
}

// successor returns who takes m in the place of s; nil for s itself. s.mu is held.
func (s *Subscription) successor(m *Message) *Subscription {
	for i := range s.heirs {
		if s.heirs[i].takes(m) {
			return s.heirs[i].sub
		}
	}
	return nil
}
