package mqtt

import "time"

// inboxBook is the ledger's part of the durable inbox: what was entered and not
// acknowledged by the application. With an inbox the exchange with the server and
// that with the application come apart: the entry in the ledger ends when the
// server was answered, which waits for the store alone, and the item in the book
// when the application is done, however many links later. Guarded by ledger.mu.
type inboxBook struct {
	items   map[uint32]*inboxItem // by generation
	earlier []uint64              // keys of what earlier processes left, by generation from 1 on
	epoch   uint64                // number of this process, the high bits of its keys

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
}

// inboxItem is one message in the inbox.
type inboxItem struct {
	gen   uint32
	reads uint8  // how often it could not be read
	key   uint64 // of its record
	left  owners // subscriptions that have not finished with it; none before it is routed
	topic string
	names []string  // the filters that it came for; none when nobody had asked for it
	size  int       // what it counts for while it is pending
	msgs  []Message // a copy for each subscription, or one for nobody yet, until it is durable; then in the store alone
}

// stash enters a new QoS 1 or 2 message, of which msgs has a copy for each
// subscription, or one for nobody yet. It is acknowledged, and handed out, once
// its record is durable. The error is that of a store which failed on this link.
func (g *ledger) stash(msgs []Message, names []string, hash uint64, now time.Time) (arrival, error) {
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
	it := &inboxItem{gen: e.gen, key: g.keyOf(e.gen), topic: m.Topic, names: names, size: mailSize(m)}
	b.record = storedInbox{names: names, flags: byte(m.ref), msg: *m}
	for i := range msgs {
		msgs[i].ref |= e.gen << refShift
		if s := msgs[i].sub; s != nil {
			it.left.add(s)
		}
	}
	it.msgs = msgs
	b.items[e.gen] = it
	e.key = b.write(&b.record, it.key, inFact{gen: e.gen, id: m.id, inbox: true})
	b.record = storedInbox{}
	return arrivedNew, nil
}

// keyOf returns the key of the message with generation gen, which is not more
// than a round of generations old.
func (g *ledger) keyOf(gen uint32) uint64 {
	rounds := g.rounds
	if gen > g.gen {
		rounds--
	}
	n := rounds<<(32-refShift) | uint64(gen)
	if n <= uint64(len(g.inbox.earlier)) {
		return g.inbox.earlier[n-1]
	}
	return g.inbox.epoch<<keyEpoch | n
}

// inboxKey returns the key of a message, 0 without an inbox, and whether an
// earlier process had it.
func (g *ledger) inboxKey(gen uint32) (key uint64, earlier bool) {
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
// it when it was. One that was not is forgotten: the server sends it again.
func (g *ledger) entered(f inFact, err error) *inboxItem {
	b, e := g.inbox, g.lookup(f.gen, f.id)
	if err != nil {
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
func (b *inboxBook) finish(gen uint32, sub *Subscription) error {
	it := b.items[gen]
	if it == nil || !it.left.remove(sub) {
		return ErrAcked
	}
	if it.left.none() {
		b.end(it)
	}
	return nil
}

func (b *inboxBook) end(it *inboxItem) {
	delete(b.items, it.gen)
	b.remove(it.key)
}

// abandon is ledger.abandon.
func (b *inboxBook) abandon(sub *Subscription) (n int) {
	for gen := range b.items {
		if b.finish(gen, sub) == nil {
			n++
		}
	}
	return n
}

// owes is ledger.owes.
func (b *inboxBook) owes(sub *Subscription) bool {
	for _, it := range b.items {
		if it.left.has(sub) {
			return true
		}
	}
	return false
}

// forsake forgets it, whose record stays for a later process.
func (g *ledger) forsake(it *inboxItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inbox.items, it.gen)
}

// item returns the message gen, nil when everybody is done with it.
func (g *ledger) item(gen uint32) *inboxItem {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inbox.items[gen]
}

// pass makes the one who has taken over from s the one to finish with it, and
// returns that, s if there is none.
func (g *ledger) pass(it *inboxItem, s *Subscription) *Subscription {
	to := s.last(it.topic)
	if to != s {
		g.mu.Lock()
		defer g.mu.Unlock()
		it.left.replace(s, to)
	}
	return to
}

// assign makes subs those that have to finish with it, unless it has owners.
func (g *ledger) assign(it *inboxItem, subs []*Subscription) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if it.left.none() {
		it.left.set(subs)
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
