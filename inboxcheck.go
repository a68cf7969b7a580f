package mqtt

import (
	"fmt"
	"slices"
)

// inboxProblems checks for the tests of test/ that book, queues and counts of the inbox
// of a Conn agree. It is for one that is still: while the committer is at work it
// returns nothing.
func inboxProblems(c *Conn) []string {
	c.out.mu.Lock()
	busy := c.out.journal.running
	c.out.mu.Unlock()
	if busy {
		return nil
	}
	defer func() {
		c.out.mu.Lock() // a committer that begins has seen this end
		defer c.out.mu.Unlock()
	}()
	k := &inboxCheck{in: c.inbox, book: c.ledger.inbox, counts: map[*owner]*inboxCount{}}
	subs := c.routes.subscriptions()
	c.routes.mu.Lock()
	defer c.routes.mu.Unlock()
	c.ledger.inbox.mu.Lock()
	defer c.ledger.inbox.mu.Unlock()
	k.counts[k.book.unclaimed] = &inboxCount{}
	for _, s := range subs {
		k.counts[&s.owner] = &inboxCount{}
	}
	if k.in.needsReconcile() || k.in.deliverable {
		k.bad("there is something to do, and no committer at work")
	}
	if n := k.book.uncommitted; n != 0 {
		k.bad("%d are not durable yet", n)
	}
	k.checkQueues()
	k.checkItems()
	k.checkWaiting()
	k.checkCounts()
	return k.problems
}

// inboxCount is what a subscription should have.
type inboxCount struct{ all, coming, bytes, inHand int }

type inboxCheck struct {
	in       *inbox
	book     *inboxBook
	stored   int
	counts   map[*owner]*inboxCount
	problems []string
}

func (k *inboxCheck) bad(format string, a ...any) {
	k.problems = append(k.problems, fmt.Sprintf(format, a...))
}

func (k *inboxCheck) count(s *owner) *inboxCount {
	if k.counts[s] == nil {
		k.counts[s] = &inboxCount{}
	}
	return k.counts[s]
}

func (k *inboxCheck) checkQueues() {
	for s, q := range k.in.queues {
		k.stored += len(q.items)
		for i, it := range q.items {
			if i > 0 && it.key <= q.items[i-1].key {
				k.bad("the queue of %s is out of order", s.name())
			}
			if k.book.items[it.gen] != it || !it.unfinished.has(&s.owner) {
				k.bad("%x is in the queue of %s, which is done with it", it.key, s.name())
			}
		}
		if k.in.readsPaused.Load() {
			continue
		}
		s.mu.Lock()
		switch {
		case s.ended && s.leave != leaveServer:
			k.bad("%d are in the queue of %s, which has ended", len(q.items), s.name())
		case !s.ended && (!s.wantsMore || s.synced && s.wantsRefillLocked() && s.box.len() == 0):
			k.bad("%d are in the queue of %s, wants more %t, with %d pending", len(q.items), s.name(), s.wantsMore, s.box.len())
		}
		s.mu.Unlock()
	}
}

func (k *inboxCheck) checkItems() {
	for gen, it := range k.book.items {
		if it.gen != gen || it.unfinished.none() && !it.waits() || it.tookAnyMatch || it.unclaimed != nil && !it.waits() {
			k.bad("%x: %+v", it.key, it)
		}
		if it.unclaimed != nil {
			k.count(it.unclaimed).coming++
			k.count(it.unclaimed).bytes += it.size
		}
		for _, s := range it.unfinished.all() {
			n := k.count(s)
			n.all++
			switch {
			case !it.ofThisProcess:
			case it.handedTo.has(s):
				n.inHand++
			default:
				n.coming++
				n.bytes += it.size
			}
		}
		if it.waits() {
			k.stored++
		}
		k.checkClaims(it)
	}
}

// checkClaims looks for subscriptions that are there and should have it.
func (k *inboxCheck) checkClaims(it *inboxItem) {
	keys := map[waitKey]bool{}
	if it.anyMatch {
		keys[waitKey{it.topic, true}] = true
	}
	for _, d := range it.claims {
		keys[waitKey{name: d.filter}] = true
		r := k.in.routes.filters[d.filter]
		for i := 0; r != nil && i < len(r.members); i++ {
			s := r.members[i].sub
			if !s.placeholder && s.isSynced() && s.joined > d.after && !it.had.has(&s.owner) {
				k.bad("%x waits for %q, which is there: joined %d, after %d", it.key, d.filter, s.joined, d.after)
			}
		}
	}
	for _, l := range it.listed {
		if !keys[l] {
			k.bad("%x is listed for %+v, and does not wait for it", it.key, l)
		}
		delete(keys, l)
	}
	if len(keys) > 0 {
		k.bad("%x is not listed for %+v", it.key, keys)
	}
}

func (k *inboxCheck) checkWaiting() {
	for _, anyMatch := range []bool{false, true} {
		for name, set := range k.in.waits.of(waitKey{anyMatch: anyMatch}) {
			for it := range set {
				if k.book.items[it.gen] != it || !slices.Contains(it.listed, waitKey{name, anyMatch}) {
					k.bad("%x stands under %q", it.key, name)
				}
			}
		}
	}
}

func (k *inboxCheck) checkCounts() {
	for s, n := range k.counts {
		is := inboxCount{int(s.usage.all.Load()), int(s.usage.coming.n.Load()), int(s.usage.coming.bytes.Load()), int(s.usage.unacked.n.Load())}
		if is != *n {
			k.bad("%s counts %+v, and has %+v", s.name(), is, *n)
		}
	}
	if n := int(k.in.storedOnly.Load()); n != k.stored {
		k.bad("%d are in the store alone, %d counted", k.stored, n)
	}
}
