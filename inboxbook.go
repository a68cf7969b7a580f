package mqtt

import (
	"slices"
	"time"
)

// inboxBook is the ledger's part of the durable inbox: the messages that were entered and
// that the application has not acknowledged. With an inbox the exchange with the server
// and that with the application are two things. The entry in the ledger ends when the
// server was answered, which waits for the store alone. The item in the book ends when no
// subscription has it or is to have it any more, however many links later. Guarded by
// ledger.mu.
type inboxBook struct {
	items   map[generation]*inboxItem // by generation
	earlier []uint64                  // keys of what earlier processes left, by generation from 1 on
	epoch   uint64                    // number of this process, the high bits of its keys

	// After a failed commit nothing more is entered from the link that it ends:
	// what came first will come again, and must not come last.
	failed   error  // the error of that commit
	halted   bool   // its messages are not taken out yet
	haltedOn uint32 // the link that it ended

	// write stages the record of a message, at QoS 2 with that of its packet
	// identifier, whose key it returns; remove takes the record out.
	write  func(r *storedInbox, key uint64, f inFact) (incoming uint64)
	remove func(key uint64)
	record storedInbox // what is being written

	unclaimed   *owner // counts what has no owner yet; no application has it
	uncommitted int    // messages that are not durable yet, or not handed out since
}

// addressees are the filters that a message came for, as the reader found.
type addressees struct {
	names     []string // all of them
	unclaimed []string // of these, filters without a consumer at present
	routes    uint64   // generation of the routes
}

// storeArrival enters a new QoS 1 or 2 message, of which msgs has a copy for each
// subscription, or one without an owner. It is acknowledged, and handed out, once its
// record is durable. The error is that of a store which failed on this link.
func (g *ledger) storeArrival(msgs []Message, c addressees, hash uint64, now time.Time) (arrival, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, m := g.inbox, &msgs[0]
	if b.halted || b.haltedOn == g.link {
		return arrivedOver, b.failed
	}
	e, a := g.begin(m, hash, g.clock(now))
	if e == nil {
		return a, nil
	}
	it := &inboxItem{gen: e.gen, key: g.keyOf(e.gen), fresh: true, topic: m.Topic, names: c.names, size: mailSize(m), claims: claimsOf(c.unclaimed), routes: c.routes}
	b.record = storedInbox{names: c.names, flags: byte(m.ref), msg: *m}
	for i := range msgs {
		msgs[i].setGeneration(e.gen)
		if s := msgs[i].to; s != nil {
			it.give(s)
		}
	}
	it.anyMatch = it.left.none() && len(it.claims) == 0
	if it.waits() {
		it.unclaimed = b.unclaimed
		it.count(&it.unclaimed.usage.coming, 1)
	}
	it.msgs = msgs
	b.items[e.gen] = it
	b.uncommitted++
	e.key = b.write(&b.record, it.key, inFact{gen: e.gen, id: m.id, inbox: true})
	b.record = storedInbox{}
	return arrivedNew, nil
}

// handed notes that the applications of msgs have them, and are to acknowledge them.
func (g *ledger) handed(msgs []Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range msgs {
		s := msgs[i].to
		if it := g.inbox.items[msgs[i].generation()]; it != nil && it.left.has(s) && !it.handedTo.has(s) {
			it.handedTo.add(s)
			it.count(&s.usage.coming, -1)
			it.count(&s.usage.unacked, 1)
		}
	}
}

// waitKeys returns what it waits for, nil for nothing.
func (g *ledger) waitKeys(it *inboxItem) (keys []waitKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range it.claims {
		keys = append(keys, waitKey{name: d.filter})
	}
	if it.anyMatch {
		keys = append(keys, waitKey{it.topic, true})
	}
	return keys
}

// keyOf returns the key of the message with generation gen, which is not more
// than a round of generations old.
func (g *ledger) keyOf(gen generation) uint64 {
	rounds := g.rounds
	if gen > g.gen {
		rounds--
	}
	n := rounds<<generationBits | uint64(gen)
	if n <= uint64(len(g.inbox.earlier)) {
		return g.inbox.earlier[n-1]
	}
	return g.inbox.epoch<<keyEpoch | n
}

// inboxKey returns the key of a message, 0 without an inbox, and whether an
// earlier process had it.
func (g *ledger) inboxKey(gen generation) (key uint64, earlier bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inbox == nil || gen == 0 {
		return 0, false
	}
	if it := g.inbox.items[gen]; it != nil {
		key = it.key
	} else {
		key = g.keyOf(gen)
	}
	return key, key>>keyEpoch != g.inbox.epoch
}

// halt stops what arrives until the messages of a failed commit are taken out.
func (g *ledger) halt(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inbox.halted, g.inbox.failed = true, &StoreError{Op: "write", Err: err}
}

// entered takes in what became of a message that was to be entered, and returns
// it when it was. Of one that was not nothing is kept: the server sends it again.
func (g *ledger) entered(f inFact, err error) *inboxItem {
	b, e := g.inbox, g.lookup(f.gen, f.id)
	if err != nil {
		b.uncommitted--
		b.items[f.gen].takeFromAll()
		delete(b.items, f.gen)
		if b.halted, b.haltedOn = false, g.link; e != nil {
			e.key = 0
			g.drop(e)
		}
		return nil
	}
	if e != nil {
		e.saved, e.state = true, entryAcked
	}
	return b.items[f.gen]
}

// finish notes that sub is done with the message gen. Its record goes with the last.
func (b *inboxBook) finish(gen generation, sub *owner) error {
	it := b.items[gen]
	if it == nil || !it.take(sub) {
		return ErrAcked
	}
	b.endIfDone(it)
	return nil
}

// endIfDone ends an item that has neither owners nor claims.
func (b *inboxBook) endIfDone(it *inboxItem) {
	if it.left.none() && !it.waits() && b.items[it.gen] == it {
		delete(b.items, it.gen)
		b.remove(it.key)
	}
}

// leaveToNextProcess ends it here, while its record stays for a later process, and
// returns its owners.
func (g *ledger) leaveToNextProcess(it *inboxItem) []*owner {
	g.mu.Lock()
	defer g.mu.Unlock()
	owners := it.left.all()
	it.takeFromAll()
	delete(g.inbox.items, it.gen)
	return owners
}

// uncommitted reports whether messages are not durable yet, or not handed out since; n
// of them have been by now.
func (g *ledger) uncommitted(n int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inbox.uncommitted -= n
	return g.inbox.uncommitted > 0
}

// item returns the message gen, nil when it has ended.
func (g *ledger) item(gen generation) *inboxItem {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inbox.items[gen]
}

// returnToClaims takes it from s, which has ended without handing it over, and has it
// claimed by the next subscription of each of filters that joins after so many. The
// number of joins is the clock here: a subscription that had joined before s gave the
// message back may have newer ones, and must not get an older one behind them. When
// returned is false the application never had s, and misses nothing for a filter of which
// another subscription has the message.
func (g *ledger) returnToClaims(it *inboxItem, s *owner, filters []string, after uint64, returned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !it.take(s) {
		return
	}
	it.had.remove(s)
	for _, f := range filters {
		if it.had.any(func(o *owner) bool { return (o.joined > after || !returned) && o.hasFilter(f) }) {
			continue
		}
		i := slices.IndexFunc(it.claims, func(c claim) bool { return c.filter == f })
		switch {
		case i < 0:
			it.claims = append(it.claims, claim{f, after})
		case it.claims[i].after > 0:
			it.claims[i].after = max(it.claims[i].after, after)
		}
	}
	g.inbox.endIfDone(it)
}

// candidate is a subscription that may get what waits, and its filter that says so.
type candidate struct {
	to     *owner
	filter string
}

// assign gives the items, which wait for k, to candidates, and returns what each gets. A
// candidate gets no item that it had already, and none that was given back after the
// candidate had joined: it may have newer ones.
func (g *ledger) assign(items []*inboxItem, k waitKey, candidates []candidate) (got [][]*inboxItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	got = make([][]*inboxItem, len(candidates))
	for _, it := range items {
		var after uint64
		if !k.anyMatch {
			after = it.claimableAfter(k.name)
		}
		for i, t := range candidates {
			if it.had.has(t.to) || t.to.joined <= after {
				continue
			}
			it.give(t.to)
			it.claimed = true
			it.claimedBy(t.to)
			if k.anyMatch {
				it.names = append(slices.Clip(it.names), t.filter)
			}
			got[i] = append(got[i], it)
		}
	}
	return got
}

// givenUpFilter is a filter that the application has unsubscribed, and when. Two clocks
// say that: a message whose recipients were chosen by later routes came for a later
// subscription, and so did one that was given back after more joins.
type givenUpFilter struct {
	filter string
	routes uint64 // generation of the routes then
	joins  uint64 // how many had joined
}

// ends picks the claims of it that end with f, not those that came up since.
func (f *givenUpFilter) ends(it *inboxItem) func(claim) bool {
	return func(c claim) bool {
		return c.filter == f.filter && c.after <= f.joins && (c.after > 0 || it.routes < f.routes)
	}
}

// giveUpFilter ends the claims of a filter to items, and returns how many of them are
// without a claim then.
func (g *ledger) giveUpFilter(items []*inboxItem, f givenUpFilter) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, it := range items {
		if !slices.ContainsFunc(it.claims, f.ends(it)) {
			continue
		}
		if it.endClaims(f.ends(it)); len(it.claims) == 0 {
			it.anyMatch = false
			n++
		}
		g.inbox.endIfDone(it)
	}
	return n
}

// openToAnyMatch ends the grace of a restart: items without an owner so far may go to any
// subscription that matches. Those that a subscription has are not kept for the filters of
// others.
func (g *ledger) openToAnyMatch(items []*inboxItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, it := range items {
		switch {
		case it.fresh:
		case it.claimed:
			it.endClaims(neverHad)
			g.inbox.endIfDone(it)
		default:
			it.anyMatch = true
		}
	}
}

// expireClaims is openToAnyMatch for items that a subscription got after the grace.
func (g *ledger) expireClaims(items []*inboxItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, it := range items {
		if it.tookAnyMatch {
			it.tookAnyMatch = false
			it.endClaims(neverHad)
			g.inbox.endIfDone(it)
		}
	}
}

// openInbox begins the book with what earlier processes left, in order.
func (g *ledger) openInbox(b *inboxBook, earlier []*inboxItem) {
	g.inbox = b
	for _, it := range earlier {
		it.gen = g.nextGen()
		b.items[it.gen] = it
		b.earlier = append(b.earlier, it.key)
	}
}

// countUnclaimedBy has s count what has no owner from now on, and returns the one that did
// before.
func (g *ledger) countUnclaimedBy(s *owner) (before *owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, g.inbox.unclaimed = g.inbox.unclaimed, s
	return before
}

// unclaimedCounter returns the one that counts what has no owner.
func (g *ledger) unclaimedCounter() *owner {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inbox.unclaimed
}
