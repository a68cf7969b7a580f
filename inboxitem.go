package mqtt

import "slices"

// inboxItem is one message in the inbox. It is with the subscriptions that have
// not finished with it, and waits for those that are to have it: of the filters
// that it is owed to, or, when it is loose, for whoever matches. With the last of
// these its record goes.
type inboxItem struct {
	gen   uint32
	reads uint8    // how often it could not be read
	fresh bool     // of this process: it counts for its owners
	key   uint64   // of its record
	topic string   // of the message
	names []string // the filters that it came for, none when nobody had asked for it, and those that got it then
	size  int      // what it counts for

	left         owners    // subscriptions that have not finished with it
	handedTo     owners    // of these, those to whose application it was handed over
	had          owners    // those that had it, and did not leave it
	claims       []claim   // filters whose next subscription is to have it
	anyMatch     bool      // whoever matches may have it
	claimed      bool      // somebody came for it
	tookAnyMatch bool      // somebody has it in whose place whoever matches might have had it
	unclaimed    *owner    // counts it while it waits, when it came for nobody
	routes       uint64    // generation of the routes by which its owners were chosen
	msgs         []Message // a copy for each owner, until it is durable; then in the store alone

	listed []waitKey // under what it waits; the committer's
}

// debt is a filter whose next subscription is to have a message.
type claim struct {
	filter string
	after  uint64 // it joins after so many, since one of them left the message; 0 when none had it
}

// debts are those of filters that nobody had a message for.
func claimsOf(filters []string) []claim {
	var all []claim
	for _, f := range filters {
		all = append(all, claim{filter: f})
	}
	return all
}

// waitKey is what messages wait for together: the filter that is to have them, or
// else their topic.
type waitKey struct {
	name     string // the empty filter is the catch-all's
	anyMatch bool   // it is a topic: whoever matches may have them
}

// give makes s one that has to finish with it.
func (it *inboxItem) give(s *owner) {
	s.usage.all.Add(1)
	it.count(&s.usage.coming, 1)
	it.had.add(s)
	it.left.add(s)
}

// take makes s no longer one that has it, and reports whether it was.
func (it *inboxItem) take(s *owner) bool {
	if !it.left.remove(s) {
		return false
	}
	s.usage.all.Add(-1)
	if it.handedTo.remove(s) {
		it.count(&s.usage.unacked, -1)
	} else {
		it.count(&s.usage.coming, -1)
	}
	return true
}

// count adds it to l n times, if it is of this process.
func (it *inboxItem) count(l *amount, n int) {
	if it.fresh {
		l.add(n, n*it.size)
	}
}

// waits reports whether somebody is still to have it.
func (it *inboxItem) waits() bool { return it.anyMatch || len(it.claims) > 0 }

// owes returns from when on the next subscription of a filter is to have it.
func (it *inboxItem) claimableAfter(filter string) (after uint64) {
	for _, d := range it.claims {
		if d.filter == filter {
			after = d.after
		}
	}
	return after
}

// satisfy notes that s has it now.
func (it *inboxItem) claimedBy(s *owner) {
	it.tookAnyMatch = it.tookAnyMatch || it.anyMatch
	it.anyMatch = false
	it.endClaims(func(d claim) bool { return s.hasFilter(d.filter) })
}

// settle ends those of the debts that paid picks.
func (it *inboxItem) endClaims(paid func(claim) bool) {
	it.claims = slices.DeleteFunc(it.claims, paid)
	if it.unclaimed != nil && !it.waits() {
		it.count(&it.unclaimed.usage.coming, -1)
		it.unclaimed = nil
	}
}

// forget takes it from everybody.
func (it *inboxItem) takeFromAll() {
	for !it.left.none() {
		it.take(it.left.first)
	}
	it.anyMatch = false
	it.endClaims(func(claim) bool { return true })
}

// unclaimedDebt picks the debts to filters that nobody had the message for.
func neverHad(d claim) bool { return d.after == 0 }
