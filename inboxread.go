package mqtt

import (
	"errors"
	"slices"

	"github.com/millrace/mqtt/store"
)

const (
	// inboxPage and inboxPageBytes are how much is read from the store at once.
	inboxPage      = 64
	inboxPageBytes = 1 << 20
	// feedPages is how many pages are handed out between two commits: a
	// consumer as fast as the disk must not keep everything else from it.
	feedPages = 32
)

// serve hands s what waits for it in the store, as far as it has room, at most so
// many pages. It returns how many of these it left.
func (in *inbox) serve(s *Subscription, q *inboxQueue, pages int) int {
	for ; len(q.items) > 0; pages-- {
		if ended, leave := s.ending(); ended {
			if leave == leaveAcked {
				in.discard(s, q)
			}
			return pages // applyChanges takes what goes back to the inbox
		}
		if pages == 0 {
			in.wake() // after the next commit
			return 0
		}
		n := q.page(s)
		if n == 0 {
			return pages // it will tell when it has room
		}
		done, err := in.read(s, q.items[:n])
		if done < n && err != nil && in.unreadable(s, q.items[done], err) {
			done++
			err = nil
		}
		in.dequeue(s, q, done)
		if err != nil {
			in.pauseReads(err)
			return pages
		}
		in.failing = false
	}
	return pages
}

// pauseReads has the store asked again a moment later.
func (in *inbox) pauseReads(err error) {
	if !in.failing {
		in.failing = true
		in.emit(StoreFailed{Err: &StoreError{Op: "read", Err: err}})
	}
	if !in.readsPaused.Swap(true) {
		in.timers.after(storePause, func() {
			in.readsPaused.Store(false)
			in.wake()
		})
	}
}

// page returns how many messages s has room for, within what is read at once.
func (q *inboxQueue) page(s *Subscription) (n int) {
	bytes := 0
	for n < len(q.items) && n < inboxPage && bytes < inboxPageBytes && !s.noRoomFor(n, bytes, q.items[n].size) {
		bytes += q.items[n].size
		n++
	}
	return n
}

// read hands items to s and returns how many there were before an error.
func (in *inbox) read(s *Subscription, items []*inboxItem) (done int, err error) {
	keys := make([]store.Key, len(items))
	for i, it := range items {
		keys[i] = store.Key{Kind: store.Inbox, Seq: it.key}
	}
	msgs := make([]Message, 0, len(items))
	err = in.out.journal.session.Read(keys, func(i int, value []byte) error {
		var r storedInbox
		if err := r.decode(value); err != nil {
			return &store.DamageError{Key: keys[i], Problem: err.Error()}
		}
		r.msg.to, r.msg.ref = &s.owner, uint32(r.flags)
		r.msg.setGeneration(items[i].gen)
		msgs = append(msgs, r.msg)
		return nil
	})
	done = len(msgs)
	in.deliverRun(&inboxRun{sub: s, msgs: msgs})
	return done, err
}

// unreadable reports whether the record will not be had because of err. When it is
// damaged, s is done with it. A record that cannot be read for long stays where it
// is: a later process may be able to read it.
func (in *inbox) unreadable(s *Subscription, it *inboxItem, err error) bool {
	_, damaged := errors.AsType[*store.DamageError](err)
	switch {
	case damaged:
		in.emit(StoreDamaged{Err: err})
	case errors.Is(err, store.ErrNotFound):
	default:
		if it.reads++; it.reads < storeFailures {
			return false
		}
		in.emit(StoreFailed{Err: &StoreError{Op: "read", Err: err}})
		in.leaveToNextProcess(it, s)
		return true
	}
	in.book.finishAll([]Message{it.stub(&s.owner)})
	s.madeRoom()
	return true
}

// leaveToNextProcess ends it here for all of its owners, and leaves the record to a later
// process.
func (in *inbox) leaveToNextProcess(it *inboxItem, s *Subscription) {
	for _, owner := range in.book.leaveToNextProcess(it) {
		o := subscriptionOf(owner)
		if q := in.queues[o]; q != nil && o != s {
			in.remove(o, q, it)
		}
		o.madeRoom()
	}
	in.index(it)
}

// remove takes it out of q, the queue of s.
func (in *inbox) remove(s *Subscription, q *inboxQueue, it *inboxItem) {
	at := slices.Index(q.items, it)
	if at < 0 {
		return
	}
	q.items = slices.Delete(q.items, at, at+1)
	in.storedOnly.Add(-1)
	if len(q.items) == 0 {
		delete(in.queues, s)
	}
}

// stub is the message without what is in the store.
func (it *inboxItem) stub(to *owner) Message {
	m := Message{Topic: it.topic, QoS: 1, to: to}
	m.setGeneration(it.gen)
	return m
}

// discard is the end of what waits for s, which was unsubscribed.
func (in *inbox) discard(s *Subscription, q *inboxQueue) {
	msgs := make([]Message, len(q.items))
	for i, it := range q.items {
		msgs[i] = it.stub(&s.owner)
	}
	in.dequeue(s, q, len(msgs))
	in.deliverRun(&inboxRun{sub: s, msgs: msgs})
}
