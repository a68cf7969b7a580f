package mqtt

import (
	"cmp"
	"slices"
	"time"

	"github.com/millrace/mqtt/internal/match"
)

// A subscription that is detached leaves its filters at the server. Its place
// in the routes is taken by a placeholder: a Subscription without a consumer, which
// takes over pending messages and collects new ones, unacknowledged, until a new Subscribe
// of a filter takes them or the grace is over.

// handover is the messages that a subscription leaves to another: those that match the
// filters.
type handover struct {
	from    *Subscription
	filters []string
}

// everything are the filters of a handover of all that there is.
var everything = []string{""}

// forwarding says which subscription takes the messages of an older one whose topic a
// filter matches.
type forwarding struct {
	filter string // empty for all
	sub    *Subscription
}

func (h *forwarding) takes(m *Message) bool {
	if h.filter == "" {
		return true
	}
	_, rest := match.SplitShared(h.filter)
	return match.Meet(rest, m.Topic)
}

// newPlaceholder makes a Subscription that only collects.
func newPlaceholder(up *upstream, filters []Filter, o subOptions) *Subscription {
	o.start = formNone
	h := newSubscription(up, filters, o)
	h.placeholder, h.settled = true, true
	return h
}

func addHandover(held []handover, from *Subscription, filter string) []handover {
	for i := range held {
		if held[i].from == from {
			held[i].filters = append(held[i].filters, filter)
			return held
		}
	}
	return append(held, handover{from, []string{filter}})
}

// withdraw has a pump put back what it did not hand over to the channel, so that
// nothing pending behind it is passed on first. The pump waits for the consumer
// alone, which the interrupt ends, and for the codec of a typed one.
func (s *Subscription) withdraw() {
	s.Pause()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sendsLocked() && s.inDelivery > 0 {
		s.idle.Wait()
	}
}

// takeOver moves the messages that older subscriptions leave to s, in the order of
// arrival; messages that still arrive at them are forwarded to s. They are locked together, so that nothing
// newer comes in between, and always the older before the newer, so that two calls do
// not wait for each other.
func takeOver(s *Subscription, from ...handover) {
	slices.SortFunc(from, func(a, b handover) int { return cmp.Compare(a.from.no, b.from.no) })
	for _, h := range from {
		h.from.mu.Lock()
		defer h.from.mu.Unlock()
	}
	var all []Message
	for _, h := range from {
		all = inOrder(all, h.from.forwardToLocked(h.filters, s))
	}
	if len(from) > 1 {
		all = onlyOnce(all)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for i := range all {
		s.box.push(&all[i], now)
	}
	s.startPumpsLocked()
	s.wakeIteratorsLocked()
}

// onlyOnce removes what several subscriptions held: a message that matches filters of
// each. At QoS 0 nothing tells it from another message.
func onlyOnce(all []Message) []Message {
	seen := map[generation]bool{}
	return slices.DeleteFunc(all, func(m Message) bool {
		gen := m.generation()
		again := m.QoS > 0 && seen[gen]
		seen[gen] = true
		return again
	})
}

// forwardToLocked has s forward what matches filters to another subscription, and
// returns what s has of that.
func (s *Subscription) forwardToLocked(filters []string, to *Subscription) []Message {
	at := len(s.forwards)
	for _, f := range filters {
		s.forwards = append(s.forwards, forwarding{f, to})
	}
	added := s.forwards[at:]
	cut := s.box.cutAll(func(m *Message) bool {
		return slices.ContainsFunc(added, func(h forwarding) bool { return h.takes(m) })
	})
	if s.up.inbox != nil {
		cut = s.up.inbox.giveBack(s, cut) // the next subscription gets it from there
	}
	if s.opts.slow == SlowLatest {
		sortByArrival(cut) // they have the places of those that they replaced
	}
	for i := range cut {
		s.moveToLocked(&cut[i], to)
	}
	s.madeRoomLocked()
	return cut
}

// deliverLateLocked takes messages that reach s after it has ended, or forwards to others:
// the reader matches without the lock of the routes, and pumps put back what they had. It
// returns n above 0, and has let the lock go, when that is done. Else s takes the messages
// that it returns after all: the placeholder of the backlog holds what no other takes.
func (s *Subscription) deliverLateLocked(msgs []Message, v Version, now time.Time) (left []Message, at *Subscription, n int, result deliverResult) {
	if len(s.forwards) > 0 {
		msgs = msgs[:1] // the next one may belong to another
		if s.returnsLocked(&msgs[0]) {
			s.up.inbox.giveBack(s, msgs)
			s.mu.Unlock()
			return nil, s, 1, deliveredToMailbox
		}
		if to := s.forwardsToLocked(&msgs[0]); to != nil {
			s.moveToLocked(&msgs[0], to)
			s.mu.Unlock()
			at, n, result = to.deliver(msgs, v, now)
			return nil, at, n, result
		}
	}
	if !s.ended {
		return msgs, nil, 0, 0
	}
	if s.up.inbox == nil || s.leave == leaveAcked || msgs[0].QoS == 0 {
		s.dropped.Add(uint64(len(msgs)))
	}
	s.mu.Unlock()
	return nil, s, len(msgs), notDelivered
}

// sortByArrival sorts the messages of QoS 1 and 2 among themselves.
func sortByArrival(msgs []Message) {
	var kept []Message
	for _, m := range msgs {
		if m.QoS > 0 {
			kept = append(kept, m)
		}
	}
	slices.SortFunc(kept, func(a, b Message) int { return a.generation().compare(b.generation()) })
	for i := range msgs {
		if msgs[i].QoS > 0 {
			msgs[i], kept = kept[0], kept[1:]
		}
	}
}

// inOrder merges two lists by arrival, which the ledger's generations tell at
// QoS 1 and 2. Between QoS 0 of the two nothing does.
func inOrder(a, b []Message) []Message {
	if len(a) == 0 {
		return b
	}
	all := make([]Message, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		from := &a
		if b[0].QoS == 0 || a[0].QoS > 0 && !a[0].generation().before(b[0].generation()) {
			from = &b
		}
		all = append(all, (*from)[0])
		*from = (*from)[1:]
	}
	return append(append(all, a...), b...)
}

// moveToLocked makes m a message of to.
func (s *Subscription) moveToLocked(m *Message, to *Subscription) {
	if m.QoS > 0 {
		s.up.ledger.transfer(m.generation(), m.id, &s.owner, &to.owner)
	}
	m.to = &to.owner
}

// forwardsToLocked returns the subscription that takes m instead of s; nil for s
// itself.
func (s *Subscription) forwardsToLocked(m *Message) *Subscription {
	for i := range s.forwards {
		// The backlog outlives the subscription that it forwards to, and holds messages again then.
		if h := &s.forwards[i]; h.takes(m) && !(s.isBacklog() && h.sub.gone()) {
			return h.sub
		}
	}
	return nil
}

// last returns the subscription that takes over a message on topic from s, in the
// end: s itself when there is none.
func (s *Subscription) last(topic string) *Subscription {
	m, last := Message{Topic: topic}, s
	for next := s; next != nil; {
		last = next
		last.mu.Lock()
		next = last.forwardsToLocked(&m)
		last.mu.Unlock()
	}
	return last
}
