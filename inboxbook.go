package mqtt

import (
	"slices"
	"sync"
)

// inboxBook lists the messages of the durable inbox: those that were entered and that the
// application has not acknowledged. With an inbox the exchange with the server and that
// with the application are two things. The entry in the ledger ends when the server was
// answered, which waits for the store alone. The item in the book ends when no
// subscription has it or is to have it any more, however many links later.
//
// Its lock guards the items too. It comes after the ledger's and before that of outbound.
type inboxBook struct {
	// Immutable once it is open.
	earlier []uint64 // keys of what earlier processes left, by generation from 1 on
	epoch   uint64   // number of this process, the high bits of its keys
	// write stages the record of a message, at QoS 2 with that of its packet
	// identifier, whose key it returns; remove takes the record out.
	write  func(r *storedInbox, key uint64, f inFact) (incoming uint64)
	remove func(key uint64)

	mu          sync.Mutex
	items       map[generation]*inboxItem
	record      storedInbox // what is being written
	unclaimed   *owner      // counts what has no owner yet; no application has it
	uncommitted int         // messages that are not durable yet, or not handed out since

	// After a failed commit nothing more is entered from the link that it ends:
	// what came first will come again, and must not come last.
	failed   error  // the error of that commit
	halted   bool   // its messages are not taken out yet
	haltedOn uint32 // the link that it ended
}

// addressees are the filters that a message came for, as the reader found.
type addressees struct {
	names     []string // all of them
	unclaimed []string // of these, filters without a consumer at present
	routes    uint64   // generation of the routes
}

// refuses returns why nothing is entered from that link; nil when it is.
func (b *inboxBook) refuses(link uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.halted || b.haltedOn == link {
		return b.failed
	}
	return nil
}

// enter begins the item of a new message, of which msgs has a copy for each subscription,
// or one without an owner, and has its record written. It returns the key of the record
// of its packet identifier.
func (b *inboxBook) enter(gen generation, key uint64, msgs []Message, c addressees) (incoming uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &msgs[0]
	it := &inboxItem{gen: gen, key: key, ofThisProcess: true, topic: m.Topic, names: c.names, size: mailSize(m), claims: claimsOf(c.unclaimed), routes: c.routes}
	b.record = storedInbox{names: c.names, flags: byte(m.ref), msg: *m}
	for i := range msgs {
		msgs[i].setGeneration(gen)
		if s := msgs[i].to; s != nil {
			it.addOwner(s)
		}
	}
	it.anyMatch = it.unfinished.none() && len(it.claims) == 0
	if it.waits() {
		it.unclaimed = b.unclaimed
		it.count(&it.unclaimed.usage.coming, 1)
	}
	it.msgs = msgs
	b.items[gen] = it
	b.uncommitted++
	incoming = b.write(&b.record, it.key, inFact{gen: gen, id: m.id, inbox: true})
	b.record = storedInbox{}
	return incoming
}

// handedOver notes that the applications of msgs have them, and are to acknowledge them.
func (b *inboxBook) handedOver(msgs []Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range msgs {
		s := msgs[i].to
		if it := b.items[msgs[i].generation()]; it != nil && it.unfinished.has(s) && !it.handedTo.has(s) {
			it.handedTo.add(s)
			it.count(&s.usage.coming, -1)
			it.count(&s.usage.unacked, 1)
		}
	}
}

// waitKeys returns what it waits for, nil for nothing.
func (b *inboxBook) waitKeys(it *inboxItem) (keys []waitKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range it.claims {
		keys = append(keys, waitKey{name: d.filter})
	}
	if it.anyMatch {
		keys = append(keys, waitKey{it.topic, true})
	}
	return keys
}

// keyOf returns the key of the n-th message of this process, those that earlier ones left
// counted first.
func (b *inboxBook) keyOf(n uint64) uint64 {
	if n <= uint64(len(b.earlier)) {
		return b.earlier[n-1]
	}
	return b.epoch<<keyEpoch | n
}

// fromEarlier reports whether the key is of a message that an earlier process had.
func (b *inboxBook) fromEarlier(key uint64) bool { return key>>keyEpoch != b.epoch }

// halt stops what arrives until the messages of a failed commit are taken out.
func (b *inboxBook) halt(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.halted, b.failed = true, &StoreError{Op: "write", Err: err}
}

// takeOut takes out a message whose commit failed on that link: nothing of it is
// kept, since the server sends it again.
func (b *inboxBook) takeOut(gen generation, link uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncommitted--
	b.items[gen].removeOwners()
	delete(b.items, gen)
	b.halted, b.haltedOn = false, link
}

// finish notes that sub is done with the message gen. Its record goes with the last.
func (b *inboxBook) finish(gen generation, sub *owner) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.finishLocked(gen, sub)
}

// finishAll is finish for those of msgs that are of QoS 1 or 2, each for its own
// subscription, and reports whether any was not finished with before.
func (b *inboxBook) finishAll(msgs []Message) (any bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range msgs {
		if m := &msgs[i]; m.QoS > 0 && b.finishLocked(m.generation(), m.to) == nil {
			any = true
		}
	}
	return any
}

func (b *inboxBook) finishLocked(gen generation, sub *owner) error {
	it := b.items[gen]
	if it == nil || !it.removeOwner(sub) {
		return ErrAcked
	}
	b.endIfDoneLocked(it)
	return nil
}

// endIfDoneLocked ends an item that has neither owners nor claims.
func (b *inboxBook) endIfDoneLocked(it *inboxItem) {
	if it.unfinished.none() && !it.waits() && b.items[it.gen] == it {
		delete(b.items, it.gen)
		b.remove(it.key)
	}
}

// leaveToNextProcess ends it here, while its record stays for a later process, and
// returns its owners.
func (b *inboxBook) leaveToNextProcess(it *inboxItem) []*owner {
	b.mu.Lock()
	defer b.mu.Unlock()
	owners := it.unfinished.all()
	it.removeOwners()
	delete(b.items, it.gen)
	return owners
}

// handedOut notes that n messages that became durable were handed out, and reports whether
// others are not durable yet, or not handed out since.
func (b *inboxBook) handedOut(n int) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uncommitted -= n
	return b.uncommitted > 0
}

// item returns the message gen, nil when it has ended.
func (b *inboxBook) item(gen generation) *inboxItem {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.items[gen]
}

// returnToClaims takes it from s, which has ended without handing it over, and has it
// claimed by the next subscription of each of filters that joins after so many. The
// number of joins is the clock here: a subscription that had joined before s gave the
// message back may have newer ones, and must not get an older one behind them. When
// returned is false the application never had s, and misses nothing for a filter of which
// another subscription has the message.
func (b *inboxBook) returnToClaims(it *inboxItem, s *owner, filters []string, after uint64, returned bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !it.removeOwner(s) {
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
	b.endIfDoneLocked(it)
}

// candidate is a subscription that may get what waits, and its filter that says so.
type candidate struct {
	to     *owner
	filter string
}

// assign gives the items, which wait for k, to candidates, and returns what each gets. A
// candidate gets no item that it had already, and none that was given back after the
// candidate had joined: it may have newer ones.
func (b *inboxBook) assign(items []*inboxItem, k waitKey, candidates []candidate) (got [][]*inboxItem) {
	b.mu.Lock()
	defer b.mu.Unlock()
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
			it.addOwner(t.to)
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
func (b *inboxBook) giveUpFilter(items []*inboxItem, f givenUpFilter) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, it := range items {
		if !slices.ContainsFunc(it.claims, f.ends(it)) {
			continue
		}
		if it.endClaims(f.ends(it)); len(it.claims) == 0 {
			it.anyMatch = false
			n++
		}
		b.endIfDoneLocked(it)
	}
	return n
}

// openToAnyMatch ends the grace of a restart: items without an owner so far may go to any
// subscription that matches. Those that a subscription has are not kept for the filters of
// others.
func (b *inboxBook) openToAnyMatch(items []*inboxItem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, it := range items {
		switch {
		case it.ofThisProcess:
		case it.claimed:
			it.endClaims(neverHad)
			b.endIfDoneLocked(it)
		default:
			it.anyMatch = true
		}
	}
}

// expireClaims is openToAnyMatch for items that a subscription got after the grace.
func (b *inboxBook) expireClaims(items []*inboxItem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, it := range items {
		if it.tookAnyMatch {
			it.tookAnyMatch = false
			it.endClaims(neverHad)
			b.endIfDoneLocked(it)
		}
	}
}

// addEarlier lists a message that an earlier process left. They come in order, before
// the book is in use.
func (b *inboxBook) addEarlier(gen generation, it *inboxItem) {
	it.gen = gen
	b.items[gen] = it
	b.earlier = append(b.earlier, it.key)
}

// countUnclaimedBy has s count what has no owner from now on, and returns the one that did
// before.
func (b *inboxBook) countUnclaimedBy(s *owner) (before *owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, b.unclaimed = b.unclaimed, s
	return before
}

// unclaimedCounter returns the one that counts what has no owner.
func (b *inboxBook) unclaimedCounter() *owner {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unclaimed
}
