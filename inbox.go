package mqtt

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// inbox hands out what the durable inbox holds: a message that has just become
// durable from memory, one that an earlier process left, or that had to wait, from
// the store. The committer does all of that, between two commits, so that each
// subscription gets its messages in the order of arrival, none before its record
// is durable, and no two copies ever race. ledger.inbox knows who has what.
type inbox struct {
	conn   *Conn
	strict atomic.Bool  // the grace of a restart: see takers
	held   atomic.Int64 // how many are in the store alone

	mu       sync.Mutex      // guards what follows; the innermost lock
	returned []Message       // given back by those who had them
	more     atomic.Bool     // there are some
	pressing []*Subscription // have no room: the reader waits for each
	pressed  atomic.Bool     // there are some

	// The committer's. It is one goroutine at a time.
	unowned []*inboxItem                  // nobody has them, in the order of arrival
	queues  map[*Subscription]*inboxQueue // who has some to come; what is newer stands behind
	failing bool                          // the store could not be read
	seen    uint64                        // generation of the routes that both were compared with
}

// openInbox begins the inbox with what earlier processes left.
func (c *Conn) openInbox(epoch uint64, earlier []*inboxItem) {
	c.inbox = &inbox{conn: c, unowned: earlier, queues: map[*Subscription]*inboxQueue{}}
	c.ledger.openInbox(&inboxBook{
		items: map[uint32]*inboxItem{}, epoch: epoch, write: c.out.keepInbox, remove: c.out.unkeepInbox,
	}, earlier)
	c.out.keep.halt, c.out.keep.feed = c.ledger.halt, c.inbox.feed
	if len(earlier) == 0 {
		return
	}
	c.inbox.held.Store(int64(len(earlier)))
	if c.cfg.backlogGrace > 0 {
		c.inbox.strict.Store(true)
		c.later(c.cfg.backlogGrace, c.inbox.endGrace)
	}
	c.inbox.wake() // for what was declared
}

// endGrace gives what nobody came back for to whoever matches.
func (in *inbox) endGrace() {
	t := in.conn.routes
	t.mu.Lock()
	defer t.mu.Unlock()
	in.strict.Store(false)
	t.changed()
	in.wake()
}

// feedInbox tells the inbox, if there is one, that somebody new may take messages.
func (c *Conn) feedInbox() {
	if c.inbox != nil {
		c.inbox.wake()
	}
}

// wake has the committer look at what waits: somebody came, or has room.
func (in *inbox) wake() {
	o := in.conn.out
	o.mu.Lock()
	defer o.unlock()
	o.keep.next.feed = true
	o.commitSoon()
}

// feed hands out what waits, as far as somebody takes it and has room.
func (in *inbox) feed() {
	for in.behind() {
		in.seen = in.conn.routes.gen.Load()
		in.takeBack()
		in.moveOn()
		in.adopt()
	}
	pages := feedPages
	for s, q := range in.queues {
		pages = in.serve(s, q, pages)
	}
	in.tellDrain()
}

// tellDrain has Drain look whether the subscriptions that it waits for are done.
func (in *inbox) tellDrain() {
	if !in.conn.draining.Load() {
		return
	}
	for _, s := range in.conn.routes.subscriptions() {
		s.mu.Lock()
		s.madeRoom()
		s.mu.Unlock()
	}
}

// behind reports whether what waits has to be looked through before anything newer
// is handed out: somebody came or went.
func (in *inbox) behind() bool { return in.seen != in.conn.routes.gen.Load() || in.more.Load() }

// giveBack takes back a message that went from one subscription to another, and
// reports whether there is an inbox that does. The new one gets it from the store,
// in its place among those that it never left.
func (c *Conn) giveBack(m *Message) bool {
	in := c.inbox
	if in == nil || m.QoS == 0 {
		return false
	}
	in.mu.Lock()
	first := len(in.returned) == 0
	in.returned = append(in.returned, Message{sub: m.sub, ref: m.ref})
	in.more.Store(true)
	in.mu.Unlock()
	if first {
		in.wake()
	}
	return true
}

// takeBack has what was given back wait for who gets it.
func (in *inbox) takeBack() {
	in.mu.Lock()
	msgs := in.returned
	in.returned = nil
	in.more.Store(false)
	in.mu.Unlock()
	for i := range msgs {
		m := &msgs[i]
		if it := in.conn.ledger.item(m.ref >> refShift); it != nil {
			in.enqueue(it, in.conn.ledger.pass(it, m.sub))
		}
	}
}

// moveOn puts what waits for a subscription that was detached or replaced in the
// queue of who takes over.
func (in *inbox) moveOn() {
	for s, q := range in.queues {
		if !s.hasHeirs() {
			continue
		}
		items := q.items
		q.items = nil
		for _, it := range items {
			in.enqueue(it, in.conn.ledger.pass(it, s))
		}
		if len(q.items) == 0 {
			delete(in.queues, s)
		}
		in.held.Add(int64(-len(items)))
	}
}

// adopt finds out who gets what nobody has. When the routes change meanwhile it
// ends, to begin again: a later message must not find somebody to go to whom an
// earlier one did not find.
func (in *inbox) adopt() {
	rest := in.unowned[:0]
	for i, it := range in.unowned {
		subs, ok := in.takers(it)
		if !ok {
			rest = append(rest, in.unowned[i:]...)
			break
		}
		if len(subs) == 0 {
			rest = append(rest, it)
			continue
		}
		in.held.Add(-1)
		for _, s := range subs {
			in.enqueue(it, s)
		}
	}
	clear(in.unowned[len(rest):])
	in.unowned = rest
}

// takers makes those who match the ones to finish with a message that nobody has.
// It fails when the routes are not those that the rest was compared with.
func (in *inbox) takers(it *inboxItem) (subs []*Subscription, ok bool) {
	subs = in.conn.routes.takers(it.topic, it.names, in.strict.Load())
	if in.conn.routes.gen.Load() != in.seen {
		return nil, false
	}
	in.conn.ledger.assign(it, subs)
	return subs, true
}

// inboxQueue is what waits for one subscription, in the order of arrival. The last
// of it are messages that came while older ones waited.
type inboxQueue struct {
	items  []*inboxItem
	behind int // of items
	bytes  int // what these count for
}

// drop takes out the first n, and returns what it has behind older ones.
func (q *inboxQueue) drop(n int) (behind, bytes int) {
	for i := len(q.items) - q.behind; i < n; i++ {
		q.behind--
		q.bytes -= q.items[i].size
	}
	clear(q.items[:n])
	q.items = q.items[n:]
	return q.behind, q.bytes
}

// enqueueNew has it, which has just come, wait for s behind what does, and the
// reader until there is room for more of that.
func (in *inbox) enqueueNew(it *inboxItem, s *Subscription) {
	q := in.enqueue(it, s)
	q.behind++
	q.bytes += it.size
	s.setBehind(q.behind, q.bytes)
	in.press(s)
}

// enqueue has it wait for s.
func (in *inbox) enqueue(it *inboxItem, s *Subscription) *inboxQueue {
	q := in.queues[s]
	if q == nil {
		q = &inboxQueue{}
		in.queues[s] = q
	}
	at, found := slices.BinarySearchFunc(q.items, it, func(a, b *inboxItem) int { return cmp.Compare(a.key, b.key) })
	if !found {
		q.items = slices.Insert(q.items, at, it)
		in.held.Add(1)
	}
	return q
}

// deliver hands out messages that have just become durable.
func (in *inbox) deliver(items []*inboxItem) {
	var run []Message
	give := func() {
		if len(run) > 0 {
			in.give(run[0].sub, run)
		}
		run = run[:0]
	}
	for _, it := range items {
		if in.behind() {
			give()
			in.feed() // who has it now may have to have older ones first
		}
		for _, m := range in.claimed(it) {
			switch {
			case in.queues[m.sub] != nil:
				in.enqueueNew(it, m.sub) // the store is no place for what nobody takes
				continue
			case len(run) > 0 && run[0].sub != m.sub || len(run) == maxRun:
				give()
			}
			run = append(run, m)
		}
	}
	give()
	if len(in.unowned) > 0 && in.behind() {
		in.feed()
	}
}

// claimed returns the copies of a new message for those who get it by now.
func (in *inbox) claimed(it *inboxItem) []Message {
	msgs := it.msgs
	it.msgs = nil
	if m := &msgs[0]; m.sub == nil {
		subs, ok := in.takers(it)
		if !ok || len(subs) == 0 {
			in.unowned = append(in.unowned, it)
			in.held.Add(1)
		}
		return m.copies(subs, nil)
	}
	own := msgs[:0]
	for _, m := range msgs {
		m.sub = in.conn.ledger.pass(it, m.sub)
		if !slices.ContainsFunc(own, func(o Message) bool { return o.sub == m.sub }) {
			own = append(own, m)
		}
	}
	return own
}

// give brings msgs to s and does what follows.
func (in *inbox) give(s *Subscription, msgs []Message) {
	now := time.Now()
	for len(msgs) > 0 {
		// As on 3.x: no Receive Maximum bounds what is acknowledged already.
		n, f := s.deliver(msgs, V311, now)
		some := msgs[:n]
		msgs = msgs[n:]
		switch to := some[n-1].sub; {
		case f == fateGone && to.keeps():
			// The record stays for the next process.
		case f == fateGone, f == fateHanded && !to.opts.manual:
			in.conn.ledger.doneAll(some)
		case f == fateOver:
			in.press(to)
		}
	}
}

// hasHeirs reports whether others take over from s.
func (s *Subscription) hasHeirs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heirs) > 0
}

// keeps reports whether s ended with the Conn.
func (s *Subscription) keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keep
}
