package mqtt

import (
	"github.com/millrace/mqtt/internal/match"
)

// backlog holds what a resumed session brings and no subscription takes yet: the server
// sends it straight after CONNACK, the application subscribes a moment later. Its messages
// stand unacknowledged in a placeholder, as those of a detached filter do (detach.go). This
// placeholder has no place in the trie: it takes QoS 1 and 2 that match no filter. Guarded
// by routes.mu.
type backlog struct {
	sub   *Subscription // nil when nothing is held
	link  uint32        // whose CONNACK began the grace; 0 without a link
	takes bool          // what arrives is held too: the session was resumed

	// unwanted are filters unsubscribed since it was opened, or before and not
	// yet answered: what still comes for them is acknowledged at once.
	unwanted map[string]struct{}
}

// beginBacklogLocked begins the grace of a link, and reports whether there is one.
// Messages that an earlier link left are held too: the server sends it again, or has lost the session
// and this is the last copy.
func (t *routes) beginBacklogLocked(link uint32, resumed bool) bool {
	b := &t.backlog
	if t.backlogGrace <= 0 || b.sub == nil && !resumed {
		*b = backlog{} // an earlier link may have begun one
		return false
	}
	if b.unwanted == nil {
		b.unwanted = map[string]struct{}{}
	}
	if b.sub == nil && !t.hasInbox() {
		b.sub = newPlaceholder(t.upstream, nil, newSubOptions(nil))
	}
	for f := range t.removed {
		b.unwanted[f] = struct{}{}
	}
	for f := range t.leftBehind {
		b.unwanted[f] = struct{}{}
	}
	b.link, b.takes = link, resumed
	return true
}

// unwantLocked notes filters that are being unsubscribed.
func (b *backlog) unwantLocked(filters []string) {
	if b.unwanted == nil {
		return
	}
	for _, f := range filters {
		b.unwanted[f] = struct{}{}
	}
}

// takerOfUnmatched returns the subscription that takes a message which matches no filter: the
// catch-all, or the backlog's placeholder; nil when the message is acknowledged at once.
func (t *routes) takerOfUnmatched(topic string, qos QoS) *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catchAll != nil || qos == 0 {
		return t.catchAll
	}
	return t.backlog.placeholderLocked(topic)
}

// placeholderLocked returns the placeholder if it takes a message on topic.
func (b *backlog) placeholderLocked(topic string) *Subscription {
	if b.sub == nil || !b.wantsLocked(topic) {
		return nil
	}
	return b.sub
}

// wantsLocked reports whether a message on topic is held when no subscription takes it.
func (b *backlog) wantsLocked(topic string) bool {
	if !b.takes {
		return false
	}
	for f := range b.unwanted {
		if _, rest := match.SplitShared(f); match.Meet(rest, topic) {
			return false
		}
	}
	return true
}

// keepsUnclaimed reports whether a message on topic that no subscription takes is kept in the
// durable inbox, where the backlog has no placeholder.
func (t *routes) keepsUnclaimed(topic string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.backlog.wantsLocked(topic)
}

// takeHeldLocked gives s what is held for its filters, by placeholders of the same
// filters, which s replaces, and in the backlog.
func (t *routes) takeHeldLocked(s *Subscription) {
	var held []handover
	var all []string
	for _, f := range s.filters {
		all = append(all, f.Pattern)
		delete(t.backlog.unwanted, f.Pattern)
		r := t.filters[f.Pattern]
		if r != nil && r.members[0].sub.placeholder {
			held = addHandover(held, r.members[0].sub, f.Pattern)
			r.members = r.members[1:]
		}
	}
	if b := t.backlog.sub; b != nil {
		held = append(held, handover{b, all})
	}
	takeOver(s, held...)
}

// takeBacklog takes the placeholder away when the grace that link began is over, and
// reports whether it is. It is not when another link began a grace since, or when no link is
// up, so that the next one begins it.
func (t *routes) takeBacklog(link uint32) (s *Subscription, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.backlog.link != link {
		return nil, false
	}
	s = t.backlog.sub
	t.backlog = backlog{}
	return s, true
}

// heldMessages returns how many messages wait for a Subscribe.
func (t *routes) heldMessages() (n int) {
	for _, s := range t.subscriptions() {
		if s.placeholder {
			n += s.Stats().Pending
		}
	}
	return n
}

// replaceByPlaceholder puts a placeholder where s was, and returns it; nil when no filter
// needs one. A filter that another subscription has needs none: what is pending for it came
// to the other subscription too, or came before that one joined, which then must not get it
// behind newer messages.
func (t *routes) replaceByPlaceholder(s *Subscription) *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.routed {
		return nil
	}
	s.routed, s.left = false, t.joins
	t.changedLocked()
	var alone []Filter
	var names []string
	for _, f := range s.filters {
		r := t.filters[f.Pattern]
		switch {
		case r == nil || !r.has(s):
		case len(r.members) > 1:
			t.leaveLocked(s, r)
		default:
			alone, names = append(alone, f), append(names, f.Pattern)
		}
	}
	if len(alone) == 0 {
		return nil
	}
	h := newPlaceholder(t.upstream, alone, s.opts)
	h.routed = true
	for _, f := range names {
		r := t.filters[f]
		r.newcomers = r.newcomers && !r.isFresh(s) // the retained copies are the placeholder's
		r.members[0].sub = h
	}
	takeOver(h, handover{s, names})
	return h
}

// outlived returns the subscriptions of filters whose context has ended and from which a
// new one takes over. Without an inbox it takes over nothing where another lives.
func (t *routes) outlived(filters []Filter) (all []*Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range filters {
		r := t.filters[f.Pattern]
		if r == nil || !t.hasInbox() && r.hasLiving() {
			continue
		}
		for _, m := range r.members {
			if m.sub.scopeEnded() {
				all = append(all, m.sub)
			}
		}
	}
	return all
}

// hasLiving reports whether the context of a member has not ended.
func (r *route) hasLiving() bool {
	for i := range r.members {
		if !r.members[len(r.members)-1-i].sub.scopeEnded() { // nearly always the newest
			return true
		}
	}
	return false
}
