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
//
// A message is with subscriptions, or waits for some (inboxwait.go). With a
// subscription it is in its channel or mailbox, or in a queue here, and then in the
// store alone. A subscription that ends, but by being unsubscribed, gives back what
// it has not handed over, which then waits for the next one of the filter.
type inbox struct {
	conn    *Conn
	strict  atomic.Bool  // the grace of a restart: what was left goes to the filters that it came for
	held    atomic.Int64 // how many are in the store alone
	resting atomic.Bool  // a read failed: it is tried again in a moment

	mu       sync.Mutex     // guards what follows; the innermost lock
	returned []returnedMail // given back by those who had them
	forgone  []string       // filters that the application has unsubscribed
	more     atomic.Bool    // there is some of that, or a subscription has ended

	// The committer's. It is one goroutine at a time.
	waits   map[waitKey]*inboxWait        // for whom nobody is here
	queues  map[*Subscription]*inboxQueue // who has some to come; what is newer stands behind
	failing bool                          // the store could not be read
	earlier bool                          // what an earlier process left may wait for its filters alone
	seen    uint64                        // generation of the routes that what waits was compared with
	gaveUp  uint64                        // how many were given up because their filter was unsubscribed
	set     filterSet
	run     inboxRun
}

// returnedMail is a message that a subscription gave back.
type returnedMail struct {
	sub *Subscription
	gen uint32
}

// openInbox begins the inbox with what earlier processes left.
func (c *Conn) openInbox(epoch uint64, earlier []*inboxItem) {
	in := &inbox{conn: c, waits: map[waitKey]*inboxWait{}, queues: map[*Subscription]*inboxQueue{}, seen: noRoutes}
	c.inbox = in
	c.ledger.openInbox(&inboxBook{
		items: map[uint32]*inboxItem{}, epoch: epoch, write: c.out.keepInbox, remove: c.out.unkeepInbox,
	}, earlier)
	in.unpark()
	c.out.keep.halt, c.out.keep.feed = c.ledger.halt, in.feed
	in.earlier = len(earlier) > 0 && c.cfg.backlogGrace > 0
	in.strict.Store(in.earlier)
	for _, it := range earlier {
		it.owed, it.loose = it.names, len(it.names) == 0 || !in.strict.Load()
		in.await(it)
	}
	if in.strict.Load() {
		c.later(c.cfg.backlogGrace, in.endGrace)
	}
	in.wake() // for what was declared
}

// noRoutes is a generation that the routes never have.
const noRoutes = ^uint64(0)

// endGrace gives what nobody came back for to whoever matches.
func (in *inbox) endGrace() {
	in.strict.Store(false)
	in.lookAgain()
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

// lookAgain has the committer look through everything.
func (in *inbox) lookAgain() {
	if !in.more.Swap(true) {
		in.wake()
	}
}

// feed hands out what waits, as far as somebody takes it and has room.
func (in *inbox) feed() {
	for in.behind() {
		in.seen = in.conn.routes.gen.Load()
		in.takeBack()
		in.adopt()
	}
	if !in.resting.Load() {
		pages := feedPages
		for s, q := range in.queues {
			pages = in.serve(s, q, pages)
		}
	}
	in.tellDrain()
}

// tellDrain has Drain look whether the subscriptions that it waits for are done.
func (in *inbox) tellDrain() {
	if !in.conn.draining.Load() {
		return
	}
	for _, s := range in.conn.routes.subscriptions() {
		s.tellRoom()
	}
}

// behind reports whether what waits has to be looked through before anything newer
// is handed out: somebody came or went.
func (in *inbox) behind() bool { return in.seen != in.conn.routes.gen.Load() || in.more.Load() }

// giveBack takes back those of msgs that are from the inbox, which s has not
// handed over and will not, and returns the rest. A subscription calls it under its
// lock, so that who takes its place finds them here.
func (in *inbox) giveBack(s *Subscription, msgs []Message) (rest []Message) {
	in.mu.Lock()
	rest = msgs[:0]
	for i := range msgs {
		if msgs[i].QoS > 0 {
			in.returned = append(in.returned, returnedMail{s, msgs[i].ref >> refShift})
		} else {
			rest = append(rest, msgs[i])
		}
	}
	in.mu.Unlock()
	in.lookAgain()
	return rest
}

// forgo gives up what waits for filters that the application has unsubscribed.
func (in *inbox) forgo(filters []string) {
	in.mu.Lock()
	in.forgone = append(in.forgone, filters...)
	in.mu.Unlock()
	in.lookAgain()
}

// takeBack has what was given back, and the queues of those who have ended, wait
// for who comes next.
func (in *inbox) takeBack() {
	in.mu.Lock()
	msgs, forgone := in.returned, in.forgone
	in.returned, in.forgone = nil, nil
	in.more.Store(false)
	in.mu.Unlock()
	for _, m := range msgs {
		if it := in.conn.ledger.item(m.gen); it != nil {
			in.release(it, m.sub)
		}
	}
	for s, q := range in.queues {
		if ended, leave := s.ending(); ended && leave == leaveInbox {
			for _, it := range q.items {
				in.release(it, s)
			}
			in.dequeue(s, q, len(q.items))
		}
	}
	if in.earlier && !in.strict.Load() {
		in.earlier = false
		in.loosen()
	}
	for _, name := range forgone {
		in.giveUp(name)
	}
	in.set = filterSet{}
}

// release has it, which s leaves, wait for the next subscription of the filters
// of s that it came for.
func (in *inbox) release(it *inboxItem, s *Subscription) {
	if in.conn.ledger.release(it, s, in.namesOf(it, s), in.conn.routes.leftAt(s)) {
		in.await(it)
	}
}

// filterSet are the filters of the subscription that was asked about last: it may
// have very many, and as many messages to leave.
type filterSet struct {
	sub   *Subscription
	names map[string]bool
}

// namesOf returns the filters of s that it came for, or that match.
func (in *inbox) namesOf(it *inboxItem, s *Subscription) (names []string) {
	if len(s.filters) == 0 {
		return []string{""} // the catch-all
	}
	if in.set.sub != s {
		in.set = filterSet{s, make(map[string]bool, len(s.filters))}
		for _, f := range s.filters {
			in.set.names[f.Filter] = true
		}
	}
	for _, name := range it.names {
		if in.set.names[name] {
			names = append(names, name)
		}
	}
	for i := 0; i < len(s.filters) && len(names) == 0; i++ {
		if _, rest := splitShared(s.filters[i].Filter); meet(rest, it.topic) {
			names = append(names, s.filters[i].Filter)
		}
	}
	return names
}

// inboxQueue is what one subscription has in the store alone, in the order of arrival.
type inboxQueue struct{ items []*inboxItem }

// enqueue has items, in order, wait for s.
func (in *inbox) enqueue(s *Subscription, items ...*inboxItem) {
	if len(items) == 0 {
		return
	}
	q := in.queues[s]
	if q == nil {
		q = &inboxQueue{}
		in.queues[s] = q
	}
	in.held.Add(int64(len(items)))
	if n := len(q.items); n == 0 || q.items[n-1].key < items[0].key {
		q.items = append(q.items, items...)
		return
	}
	all := make([]*inboxItem, 0, len(q.items)+len(items))
	for old := q.items; len(old)+len(items) > 0; {
		from := &old
		if len(old) == 0 || len(items) > 0 && items[0].key < old[0].key {
			from = &items
		}
		all = append(all, (*from)[0])
		*from = (*from)[1:]
	}
	q.items = all
}

// dequeue takes out the first n.
func (in *inbox) dequeue(s *Subscription, q *inboxQueue, n int) {
	in.held.Add(int64(-n))
	clear(q.items[:n])
	if q.items = q.items[n:]; len(q.items) == 0 {
		delete(in.queues, s)
	}
}

// byKey sorts items by arrival.
func byKey(items []*inboxItem) {
	slices.SortFunc(items, func(a, b *inboxItem) int { return cmp.Compare(a.key, b.key) })
}

// deliver hands out messages that have just become durable.
func (in *inbox) deliver(items []*inboxItem) {
	run := &in.run
	for _, it := range items {
		if in.behind() {
			in.give(run)
			in.feed() // who has it now may have to have older ones first
		}
		msgs := it.msgs
		it.msgs = nil
		if it.parking != nil {
			in.await(it)
			if it.routes != in.seen {
				in.more.Store(true) // somebody may have come since
			}
		}
		for i := range msgs {
			if s := msgs[i].sub; s != nil {
				in.offer(run, s, it, &msgs[i])
			}
		}
	}
	in.give(run)
	if in.behind() {
		in.feed()
	}
}

// inboxRun is what is handed to one subscription at once.
type inboxRun struct {
	sub   *Subscription
	msgs  []Message
	bytes int
}

// offer hands m, which is it, to s together with the run, or leaves it to the store
// when s has no room for it, or older ones to come.
func (in *inbox) offer(run *inboxRun, s *Subscription, it *inboxItem, m *Message) {
	if run.sub != s || len(run.msgs) == maxRun || s.starved(len(run.msgs), run.bytes, it.size) {
		in.give(run)
	}
	if in.queues[s] != nil || len(run.msgs) == 0 && s.starved(0, 0, it.size) {
		in.enqueue(s, it)
		return
	}
	run.sub, run.msgs, run.bytes = s, append(run.msgs, *m), run.bytes+it.size
}

// give hands out run and does what follows, and empties it.
func (in *inbox) give(run *inboxRun) {
	now := time.Now()
	for msgs := run.msgs; len(msgs) > 0; {
		// As on 3.x: no Receive Maximum bounds what is acknowledged already.
		n, f := run.sub.deliver(msgs, V311, now)
		in.met(f, run.sub, msgs[:n])
		msgs = msgs[n:]
	}
	clear(run.msgs)
	*run = inboxRun{msgs: run.msgs[:0]}
}

// met does what follows when msgs met a fate.
func (in *inbox) met(f fate, s *Subscription, msgs []Message) {
	switch _, leave := s.ending(); {
	case f == fateGone && leave == leaveServer:
		// The record stays for the next process.
	case f == fateGone && leave == leaveInbox:
		in.giveBack(s, msgs)
	case f == fateGone, f == fateHanded && !s.opts.manual:
		in.conn.ledger.doneAll(msgs)
		s.tellRoom()
	case f == fateHanded:
		in.conn.ledger.handed(msgs)
		s.tellRoom()
	}
}
