package mqtt

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// askDrain sends UNSUBSCRIBE for what s alone has, and waits until the server has
// answered, on whichever link, or has no session any more, or another subscription took
// the filters over. It returns a refusal, and the cause of ctx when that ended first.
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

// beginDrain sends UNSUBSCRIBE for the filters that s alone has, and takes it out of the
// others. It keeps its place in the routes of those that it asks for.
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
		case r.wanted(): // by others
			t.leaveLocked(s, r)
		default:
			alone = append(alone, f.Pattern)
		}
	}
	t.changedLocked()
	return t.unsubscribeLocked(alone)
}

// unanswered returns nil when no UNSUBSCRIBE of s is open, and why one was given up, else
// a channel that is closed when that may have changed. Without a link the server of a
// clean session has none.
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

// refusal returns why the server refused, nil when it did not or has not answered.
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

// endDrain takes s out of its routes. What it asked the server stands.
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

// takeOverLocked takes filter from the subscriptions that are being drained, for one
// that joins: it gets what comes from now on.
func (t *routes) takeOverLocked(filter string) {
	r := t.filters[filter]
	if r == nil {
		return
	}
	for _, m := range slices.Clone(r.members) {
		if m.sub.draining {
			t.leaveLocked(m.sub, r)
		}
	}
	if _, open := t.removed[filter]; open {
		delete(t.removed, filter) // its UNSUBSCRIBE stands before the SUBSCRIBE to come
		t.wakeDrainsLocked()
	}
}

// isDraining reports whether s is being drained.
func (t *routes) isDraining(s *Subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.draining
}

// allDraining reports whether r is there only for what the server still sends.
func (r *route) allDraining() bool {
	return len(r.members) > 0 && !slices.ContainsFunc(r.members, func(m member) bool { return !m.sub.draining })
}
