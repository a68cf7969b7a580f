package mqtt

import "slices"

// inboxItem is one message in the durable inbox. It has owners, the subscriptions that
// have not finished with it, and claims, filters whose next subscription is to have it;
// or any subscription that matches may have it. When it has neither owners nor claims
// its record is deleted.
type inboxItem struct {
	gen           generation
	reads         uint8    // how often it could not be read
	ofThisProcess bool     // entered by this process, so that it counts towards the limits of its owners
	key           uint64   // of its record
	topic         string   // of the message
	names         []string // the filters that it came for, none when it matched none, and those by which it was assigned since
	size          int      // what it counts for

	unfinished   owners    // subscriptions that have not finished with it
	handedTo     owners    // of these, those whose applications have it
	had          owners    // subscriptions that had it, and did not give it back
	claims       []claim   // of filters whose next subscription is to have it
	anyMatch     bool      // any subscription that matches may have it
	claimed      bool      // a subscription got it by a claim or a match
	tookAnyMatch bool      // a subscription got it when any that matches might have had it
	unclaimed    *owner    // counts it while it waits, when it had no owner at first
	routes       uint64    // generation of the routes by which its owners were chosen
	msgs         []Message // a copy for each owner, until it is durable; then in the store alone

	listed []waitKey // the keys under which it waits; the committer's
}

// claim is a filter whose next subscription is to have a message.
type claim struct {
	filter string
	after  uint64 // only a subscription that joined after so many may: an earlier one may have newer messages; 0 when none had it
}

// claimsOf returns claims of filters of which no subscription had the message.
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
	anyMatch bool   // name is a topic, and any subscription that matches it may have them
}

// addOwner makes s one that has to finish with it.
func (it *inboxItem) addOwner(s *owner) {
	s.usage.all.Add(1)
	it.count(&s.usage.coming, 1)
	it.had.add(s)
	it.unfinished.add(s)
}

// removeOwner makes s no longer one that has it, and reports whether it was.
func (it *inboxItem) removeOwner(s *owner) bool {
	if !it.unfinished.remove(s) {
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
	if it.ofThisProcess {
		l.add(n, n*it.size)
	}
}

// waits reports whether a further subscription is to have it.
func (it *inboxItem) waits() bool { return it.anyMatch || len(it.claims) > 0 }

// claimableAfter returns after how many joins a subscription of filter is to have it.
func (it *inboxItem) claimableAfter(filter string) (after uint64) {
	for _, c := range it.claims {
		if c.filter == filter {
			after = c.after
		}
	}
	return after
}

// claimedBy notes that s has it now.
func (it *inboxItem) claimedBy(s *owner) {
	it.tookAnyMatch = it.tookAnyMatch || it.anyMatch
	it.anyMatch = false
	it.endClaims(func(c claim) bool { return s.hasFilter(c.filter) })
}

// endClaims ends those of its claims that over picks.
func (it *inboxItem) endClaims(over func(claim) bool) {
	it.claims = slices.DeleteFunc(it.claims, over)
	if it.unclaimed != nil && !it.waits() {
		it.count(&it.unclaimed.usage.coming, -1)
		it.unclaimed = nil
	}
}

// removeOwners leaves it without owners and claims.
func (it *inboxItem) removeOwners() {
	for _, s := range it.unfinished.all() {
		it.removeOwner(s)
	}
	it.anyMatch = false
	it.endClaims(func(claim) bool { return true })
}

// neverHad picks the claims of filters of which no subscription had the message.
func neverHad(c claim) bool { return c.after == 0 }
