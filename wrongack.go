package mqtt

import (
	"github.com/millrace/mqtt/codec"
)

// This file is about acknowledgements of a kind that the exchange cannot have: the
// link ends (section 4.8 of 3.1.1, 4.13 of 5.0), and what was sent is sent again on
// the next. What got misanswerLimit links closed so is given up alone, so that the
// Conn goes on.

// misansweredFilters counts a SUBSCRIBE that was answered wrongly. Its filters are
// asked for in packets of their own next; those that had their share are given up.
func (t *routes) misansweredFilters(asked []asking, cause error) {
	var settled []*Subscription
	var lost []lostRoute
	t.mu.Lock()
	for _, q := range asked {
		r := q.r
		if r.ticket != q.ticket || t.filters[r.filter] != r {
			continue // asked again since, or removed
		}
		if r.misanswers++; r.misanswers < misanswerLimit {
			continue
		}
		r.misanswers = 0
		s, l := t.conclude(r, codec.UnspecifiedError, misanswered(": "+trimPrefix(cause)))
		settled, lost = append(settled, s...), append(lost, l...)
	}
	t.changed()
	t.mu.Unlock()
	t.tell(settled, lost)
}

// misansweredRemoval is the same for an UNSUBSCRIBE. A filter that is given up stays
// subscribed at the server; what comes for it is acknowledged and counted.
func (t *routes) misansweredRemoval(filters []string, wished []uint64, cause error) {
	t.mu.Lock()
	gaveUp := t.countRemovals(filters, wished)
	t.mu.Unlock()
	for _, f := range gaveUp {
		t.upstream.info("unsubscribing given up", "filter", f, "error", cause)
	}
}

// countRemovals counts the link that ends, and returns the filters that are given up.
// mu is held.
func (t *routes) countRemovals(filters []string, wished []uint64) (gaveUp []string) {
	for i, f := range filters {
		if t.removed[f] != wished[i] {
			continue // wished anew, or subscribed again
		}
		if t.misremoved == nil {
			t.misremoved = map[string]uint8{}
		}
		if t.misremoved[f]++; t.misremoved[f] >= misanswerLimit {
			delete(t.removed, f)
			delete(t.misremoved, f)
			t.leftBehind[f] = true
			t.refuseDrain(f, misanswered(""))
			gaveUp = append(gaveUp, f)
		}
	}
	return gaveUp
}
