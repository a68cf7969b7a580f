package mqtt

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// askDrain sends UNSUBSCRIBE for the filters that s alone has. It waits until the server
// has answered, on this link or a later one, or has no session any more, or another
// subscription took the filters over. It returns a refusal of the server, and the cause of
// ctx when that ended first.
func (t *routes) askDrain(ctx context.Context, s *Subscription) (refused, err error) {
	p := t.beginDrain(s)
	var answered <-chan struct{}
	if p != nil {
		answered = p.done
	}
	for {
		changed, refused := t.unanswered(s)
		if changed == nil {
			return cmp.Or(refused, p.refusal()), nil
		}
		select {
		case <-changed:
		case <-answered:
			answered = nil
		case <-s.done:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// beginDrain sends UNSUBSCRIBE for the filters that s alone has, and takes s out of the
// routes of its other filters. s stays in the routes of those that it unsubscribes.
func (t *routes) beginDrain(s *Subscription) *pendingUnsubscribe {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catchAll == s {
		t.catchAll, s.left = nil, t.joins
		t.changedLocked()
	}
	if !s.routed {
		return nil
	}
	s.draining, s.refused = true, nil
	var alone []string
	for _, f := range s.filters {
		switch r := t.filters[f.Pattern]; {
		case r == nil || !r.has(s):
		case r.wanted(): // by another subscription
			t.leaveLocked(s, r)
		default:
			alone = append(alone, f.Pattern)
		}
	}
	t.changedLocked()
	return t.unsubscribeLocked(alone)
}

// unanswered returns a channel that is closed when an open UNSUBSCRIBE of s may have got
// its answer. When none is open, as without a link in a clean session, the channel is nil
// and refused is the error with which one was given up, if one was.
func (t *routes) unanswered(s *Subscription) (changed <-chan struct{}, refused error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits == nil && !t.keepsSession {
		return nil, s.refused
	}
	for _, f := range s.filters {
		r := t.filters[f.Pattern]
		if _, open := t.removed[f.Pattern]; open && r != nil && r.has(s) {
			if t.removedShrunk == nil {
				t.removedShrunk = make(chan struct{})
			}
			return t.removedShrunk, nil
		}
	}
	return nil, s.refused
}

// refuseDrainLocked notes that the UNSUBSCRIBE of filter was given up because of err.
func (t *routes) refuseDrainLocked(filter string, err error) {
	if r := t.filters[filter]; r != nil {
		for _, m := range r.members {
			m.sub.refused = err
		}
	}
	t.wakeDrainsLocked()
}

// wakeDrainsLocked wakes the Drains that wait for answers to UNSUBSCRIBEs.
func (t *routes) wakeDrainsLocked() {
	if t.removedShrunk != nil {
		close(t.removedShrunk)
		t.removedShrunk = nil
	}
}

// refusal returns the error with which the server refused p, nil when it did not, or has
// not answered.
func (p *pendingUnsubscribe) refusal() error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
	default:
		return nil
	}
	if errors.Is(p.err, ErrLinkLost) {
		return nil
	}
	return p.err
}

// stillRouted reports whether s, which is being drained, is in the routes of one of its
// filters, so that it may still get messages.
func (t *routes) stillRouted(s *Subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hasRouteLocked(s)
}

// endDrain takes s out of its routes. An UNSUBSCRIBE that was sent is not taken back.
func (t *routes) endDrain(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.routed {
		return
	}
	s.routed = false
	for _, f := range s.filters {
		if r := t.filters[f.Pattern]; r != nil {
			t.leaveLocked(s, r)
		}
	}
	t.changedLocked()
}

// takeOverLocked takes filter from the subscriptions that are being drained. The one that
// joins gets the messages that arrive from now on.
func (t *routes) takeOverLocked(filter string) {
	r := t.filters[filter]
	if r == nil {
		return
	}
	for len(r.members) > 0 && r.members[0].sub.draining {
		t.leaveLocked(r.members[0].sub, r)
	}
	if _, open := t.removed[filter]; open {
		delete(t.removed, filter) // the UNSUBSCRIBE is sent before the SUBSCRIBE that follows
		t.wakeDrainsLocked()
	}
}

// isDraining reports whether s is being drained.
func (t *routes) isDraining(s *Subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.draining
}

// allDraining reports whether every subscription of r is being drained.
func (r *route) allDraining() bool {
	return len(r.members) > 0 && !slices.ContainsFunc(r.members, func(m member) bool { return !m.sub.draining })
}
