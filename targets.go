package mqtt

import (
	"slices"
	"unsafe"
)

// matches are the targets of a topic, until the routes change. Topics that match one and
// the same filter share them, and the committer reads them beside the reader: the marks of
// late copies change, and only where several filters match.
type matches struct {
	targets []target
	routes  int    // how many filters match
	gen     uint64 // of the routes; 0 for none
	shared  bool
}

// noMatches are those of a topic that was not matched yet.
var noMatches = &matches{shared: true}

// size is what m counts for in one topic.
func (m *matches) size() int {
	if m.shared {
		return 0
	}
	return int(unsafe.Sizeof(*m)) + len(m.targets)*int(unsafe.Sizeof(target{}))
}

// target is one way a topic reaches a subscription.
type target struct {
	sub       *Subscription
	filter    string
	subID     uint32
	granted   QoS  // and at most what the subscription asked for itself
	known     bool // the server has granted it, and sends for it
	asPub     bool
	fresh     bool // takes retained copies, when others must not
	others    bool // some member is fresh
	replay    bool
	forwarded bool // a placeholder that forwards to another target what is not in an inbox

	canonical int  // index of the one target of the subscription that counts when copies cannot be told apart
	next      int  // index of the next target of the subscription, in a ring
	takesCopy bool // the subscription takes the copy of this one
	late      bool // it did so until the server granted another, of which no copy has come yet
	lateQoS1  bool // the server had granted this one, and no copy of QoS 1 or 2 of that other has come
}

// markForwarded marks the placeholders that would forward topic to another of the
// targets, which has it already: a placeholder of several filters loses one of them to a
// new subscription, and still matches by another. With a durable inbox a placeholder
// forwards nothing, and QoS 1 and 2 still wait there for the other filter.
func markForwarded(ts []target, topic string) {
	for i := range ts {
		h := ts[i].sub
		ts[i].forwarded = h.placeholder && slices.ContainsFunc(ts, takesOverFrom(h, topic))
	}
}

// takesOverFrom returns whether a target is the one that takes over a message on topic
// from sub, in the end.
func takesOverFrom(sub *Subscription, topic string) func(target) bool {
	last := sub.last(topic)
	return func(tg target) bool { return last != sub && tg.sub == last }
}

// markTargets marks, for each subscription, the target whose copy it takes when
// the server sends one for each filter: the granted one with the highest QoS, of what the
// subscription asked for itself, so that the choice does not change for others.
// While the server has granted none, it may send for any of them, so all count. A
// filter that is asked for anew still counts as granted, since the server goes on
// sending for it: else the copy of another filter would count, which may have been
// passed over before and is only a redelivery when it comes again on the next link.
func markTargets(ts []target, matched int) {
	if matched == 1 {
		for i := range ts {
			ts[i].canonical, ts[i].next, ts[i].takesCopy = i, i, true
		}
		return
	}
	best := make(map[*Subscription]int, len(ts))
	for i := range ts {
		at, several := best[ts[i].sub]
		if ts[i].next = i; several {
			ts[i].next, ts[at].next = ts[at].next, i
		}
		if !several || ts[i].before(&ts[at]) {
			best[ts[i].sub] = i
		}
	}
	for i := range ts {
		at := best[ts[i].sub]
		ts[i].canonical, ts[i].takesCopy = at, i == at || !ts[at].known
	}
}

// before reports whether a subscription takes the copies of t rather than those of o,
// which stands before t.
func (t *target) before(o *target) bool {
	if t.known != o.known {
		return t.known
	}
	return t.granted > o.granted
}

// markLate marks the targets whose copies a subscription took until now and does no more.
// The server sends a message once for each filter; when the change fell between the copies
// of one message, the one that counts now was passed over, and the copy of the target
// before is the last one to come.
func (m *matches) markLate(old []target) {
	type key struct {
		sub    *Subscription
		filter string
	}
	var before map[key]*target // made when one is looked up: few topics match several filters
	for i := range m.targets {
		n := &m.targets[i]
		if n.takesCopy {
			continue
		}
		if before == nil {
			before = make(map[key]*target, len(old))
			for j := range old {
				before[key{old[j].sub, old[j].filter}] = &old[j]
			}
		}
		if o := before[key{n.sub, n.filter}]; o != nil && o.subID == n.subID {
			n.late, n.lateQoS1 = o.takesCopy || o.late, o.takesCopy && o.known || o.lateQoS1
		}
	}
}

// endLate has a subscription take no more copies of its other targets: a copy with that
// QoS of the one at index at came, which counts now. A message of QoS 0 says nothing of
// those of QoS 1 and 2 before it, for which the server may have had no room in its window.
func (m *matches) endLate(at int, qos byte) {
	for i := m.targets[at].next; i != at; i = m.targets[i].next {
		tg := &m.targets[i]
		tg.late, tg.lateQoS1 = false, tg.lateQoS1 && qos == 0
	}
}

// takesLate reports whether a copy with that QoS is taken all the same.
func (t *target) takesLate(qos byte) bool { return t.late || t.lateQoS1 && qos > 0 }
