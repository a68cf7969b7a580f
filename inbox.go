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
// is durable, and no two copies ever race. The book has the owners of each message.
//
// A message has owners, or waits for them (inboxwait.go). Its owner has it in the channel
// or in the mailbox, or in a queue here, and then it is in the store alone. A subscription
// that ends gives back what it has not handed over, unless it was unsubscribed; the next
// subscription of the filter may claim that.
//
// The inbox hands out to a new subscription from the moment on that the committer has
// compared it with the messages that wait. Newer messages stand in the queue of the
// subscription until then.
type inbox struct {
	// Immutable.
	*reporter
	book     *inboxBook
	out      *outbound
	routes   *routes
	up       *upstream
	timers   *timers
	draining *atomic.Bool  // Conn.Drain waits
	grace    time.Duration // of a restart

	storedOnly  atomic.Int64 // how many are in the store alone
	readsPaused atomic.Bool  // a read failed: it is tried again in a moment
	graceOver   atomic.Bool  // the grace of a restart is over: what was left may go to any subscription that matches

	mu       sync.Mutex         // guards what follows; the innermost lock
	returned []returnedMessages // what subscriptions gave back
	givenUp  []givenUpFilter    // filters that the application has unsubscribed
	arrived  []*Subscription    // that the application has now
	more     atomic.Bool        // one of these is not empty

	// The committer's. It is one goroutine at a time.
	waits         waiting
	queues        map[*Subscription]*inboxQueue // what is still to be handed out to a subscription; newer messages stand behind it
	deliverable   bool                          // a queue has something that fits
	failing       bool                          // the store could not be read
	hasEarlier    bool                          // what an earlier process left may wait for its filters alone
	returning     []returnedMessages            // of subscriptions that have yet to put something back
	givenUpBefore []givenUpFilter               // filters that what was not durable then may still have claims of
	gaveUp        uint64                        // how many were given up because their filter was unsubscribed
	run           inboxRun
}

// returnedMessages are messages that a subscription gave back.
type returnedMessages struct {
	sub  *Subscription
	gens []generation
}

// subscriptionsArrived has the inbox hand out to subs, which the application has now.
func (in *inbox) subscriptionsArrived(subs ...*Subscription) {
	in.mu.Lock()
	in.arrived = append(in.arrived, subs...)
	in.mu.Unlock()
	in.requestReconcile()
}

// beginGrace begins the grace of a restart: the application can subscribe now.
func (in *inbox) beginGrace() {
	if in.grace > 0 {
		in.timers.after(in.grace, in.endGrace)
		return
	}
	in.graceOver.Store(true) // before the declared subscriptions arrive, which may have all that matches
}

// endGrace gives what was not claimed to any subscription that matches.
func (in *inbox) endGrace() {
	in.graceOver.Store(true)
	in.requestReconcile()
}

// wake has the committer hand out what waits: a subscription has room.
func (in *inbox) wake() {
	o := in.out
	o.mu.Lock()
	defer o.unlock()
	o.journal.next.feed = true
	o.commitSoonLocked()
}

// requestReconcile has the committer compare subscriptions with what waits.
func (in *inbox) requestReconcile() {
	if !in.more.Swap(true) {
		in.wake()
	}
}

// feed hands out what waits, as far as subscriptions have room.
func (in *inbox) feed() {
	in.reconcile()
	in.deliverable = false
	if !in.readsPaused.Load() {
		pages := feedPages
		for s, q := range in.queues {
			pages = in.serve(s, q, pages)
		}
	}
	in.tellDrain()
}

// reconcile takes in which subscriptions came and went, and assigns what waits to those
// that are there.
func (in *inbox) reconcile() {
	for in.needsReconcile() {
		in.applyChanges()
		in.assignUnclaimed()
	}
}

// needsReconcile reports whether reconcile has something to do: nothing is handed out
// before.
func (in *inbox) needsReconcile() bool { return in.more.Load() || len(in.waits.dirty) > 0 }

// tellDrain has Drain look whether the subscriptions that it waits for are done. It wakes
// nothing else: the committer, which calls it, would be woken by itself for ever.
func (in *inbox) tellDrain() {
	if !in.draining.Load() {
		return
	}
	for _, s := range in.routes.subscriptions() {
		s.tellQuiet()
	}
}

// giveBack takes back those of msgs that are from the inbox, which s has not
// handed over and will not, and returns the rest. A subscription calls it under its
// lock, so that the next one of the filter finds them here; and also without messages when
// it ends, for what is in its queue.
func (in *inbox) giveBack(s *Subscription, msgs []Message) (rest []Message) {
	back := returnedMessages{sub: s}
	rest = msgs[:0]
	for i := range msgs {
		if msgs[i].QoS > 0 {
			back.gens = append(back.gens, msgs[i].generation())
		} else {
			rest = append(rest, msgs[i])
		}
	}
	in.mu.Lock()
	in.returned = append(in.returned, back)
	in.mu.Unlock()
	in.requestReconcile()
	return rest
}

// giveUpFilters gives up what waits for filters that the application has unsubscribed, at
// that generation of the routes and after so many joins. routes.mu is held.
func (in *inbox) giveUpFilters(filters []string, gen, joins uint64) {
	in.mu.Lock()
	for _, f := range filters {
		in.givenUp = append(in.givenUp, givenUpFilter{f, gen, joins})
	}
	in.mu.Unlock()
	in.requestReconcile()
}

// applyChanges has what was given back claimed by the next subscriptions, ends the claims
// of filters that were unsubscribed, and takes in subscriptions that came.
func (in *inbox) applyChanges() {
	in.mu.Lock()
	returned, givenUp, arrived := in.returned, in.givenUp, in.arrived
	in.returned, in.givenUp, in.arrived = nil, nil, nil
	in.more.Store(false)
	in.mu.Unlock()
	returned, in.returning = append(in.returning, returned...), nil
	for _, r := range returned {
		if r.sub.puttingBack() {
			in.returning = append(in.returning, r) // it asks for reconcile then
			continue
		}
		in.returnAllToClaims(r)
	}
	for _, f := range givenUp {
		in.endClaims(f)
	}
	if len(givenUp) > 0 && in.book.handedOut(0) {
		in.givenUpBefore = append(in.givenUpBefore, givenUp...)
	}
	if in.hasEarlier && in.graceOver.Load() {
		in.hasEarlier = false
		in.openToAnyMatch()
	}
	for _, s := range arrived {
		if in.mayGetReturned(s) {
			in.mu.Lock()
			in.arrived = append(in.arrived, s)
			in.mu.Unlock()
			continue
		}
		s.setSynced()
		in.markDirtyFor(s)
		in.deliverable = true
	}
}

// mayGetReturned reports whether a subscription has yet to put back messages that s may
// get, and that are older than those it has.
func (in *inbox) mayGetReturned(s *Subscription) bool {
	return slices.ContainsFunc(in.returning, func(r returnedMessages) bool {
		return len(s.filters)+len(r.sub.filters) == 0 ||
			slices.ContainsFunc(r.sub.filters, func(f Filter) bool { return s.hasFilter(f.Pattern) })
	})
}

// returnAllToClaims has the messages that a subscription gave back, and those in its
// queue, claimed by the next subscriptions.
func (in *inbox) returnAllToClaims(r returnedMessages) {
	for _, gen := range r.gens {
		if it := in.book.item(gen); it != nil {
			in.returnToClaims(it, r.sub)
		}
	}
	if q := in.queues[r.sub]; q != nil && r.sub.leaves() {
		for _, it := range q.items {
			in.returnToClaims(it, r.sub)
		}
		in.dequeue(r.sub, q, len(q.items))
	}
}

// returnToClaims has it, which s leaves, claimed by the next subscription of each of the
// filters by which s got it.
func (in *inbox) returnToClaims(it *inboxItem, s *Subscription) {
	in.book.returnToClaims(it, &s.owner, s.filtersOf(it), in.routes.leftAt(s), s.isReturned())
	in.index(it)
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
	in.storedOnly.Add(int64(len(items)))
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
	in.storedOnly.Add(int64(-n))
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
		if in.needsReconcile() {
			in.deliverRun(run)
			in.reconcile() // its owners may be due older ones first
		}
		msgs := it.msgs
		it.msgs = nil
		if it.unclaimed != nil {
			for _, f := range in.givenUpBefore {
				in.book.giveUpFilter([]*inboxItem{it}, f)
			}
			in.index(it)
		}
		for i := range msgs {
			if to := msgs[i].to; to != nil {
				in.offer(run, subscriptionOf(to), it, &msgs[i])
			}
		}
	}
	in.deliverRun(run)
	if !in.book.handedOut(len(items)) {
		in.givenUpBefore = nil
	}
	if in.needsReconcile() || in.deliverable {
		in.feed()
	}
}

// subscriptionOf returns the subscription that o is part of.
func subscriptionOf(o *owner) *Subscription { return o.exchange.(*Subscription) }

// inboxRun is what is handed to one subscription at once.
type inboxRun struct {
	sub   *Subscription
	msgs  []Message
	bytes int
}

// offer hands m, which is it, to s together with the run, or leaves it to the store
// when s has no room for it, or older ones to come.
func (in *inbox) offer(run *inboxRun, s *Subscription, it *inboxItem, m *Message) {
	if run.sub != s || len(run.msgs) == maxBatch || s.noRoomFor(len(run.msgs), run.bytes, it.size) {
		in.deliverRun(run)
		in.reconcile() // the subscription of the run may have ended
	}
	if in.queues[s] != nil || len(run.msgs) == 0 && s.noRoomFor(0, 0, it.size) {
		in.enqueue(s, it)
		return
	}
	run.sub, run.msgs, run.bytes = s, append(run.msgs, *m), run.bytes+it.size
}

// deliverRun hands out run, does what follows, and empties it.
func (in *inbox) deliverRun(run *inboxRun) {
	now := time.Now()
	for msgs := run.msgs; len(msgs) > 0; {
		// As on 3.x: no Receive Maximum bounds what is acknowledged already.
		_, n, result := run.sub.deliver(msgs, V311, now)
		in.afterDeliver(result, run.sub, msgs[:n])
		msgs = msgs[n:]
	}
	clear(run.msgs)
	*run = inboxRun{msgs: run.msgs[:0]}
}

// afterDeliver does what follows when msgs were delivered with result.
func (in *inbox) afterDeliver(result deliverResult, s *Subscription, msgs []Message) {
	switch _, leave := s.ending(); {
	case result == notDelivered && leave == leaveServer:
		// The record stays for the next process.
	case result == notDelivered && leave == leaveInbox:
		in.giveBack(s, msgs)
	case result == notDelivered, result == deliveredToChannel && !s.opts.manual:
		in.book.finishAll(msgs)
		s.madeRoom()
	case result == deliveredToChannel:
		in.book.handedOver(msgs)
		s.madeRoom()
	}
}
