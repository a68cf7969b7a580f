package mqtt

import (
	"errors"

	"github.com/millrace/mqtt/store"
)

const (
	// inboxPage and inboxPageBytes are how much is read from the store at once.
	inboxPage      = 64
	inboxPageBytes = 1 << 20
	// feedPages is how many pages are handed out between two commits: who takes
	// what waits as fast as it is read must not keep everything else from the disk.
	feedPages = 32
)

// serve hands s what waits for it in the store, as far as it has room, at most so
// many pages. It returns how many of these it left.
func (in *inbox) serve(s *Subscription, q *inboxQueue, pages int) int {
	for ; len(q.items) > 0; pages-- {
		if s.gone() {
			if !s.keeps() {
				in.discard(s, q)
			}
			break
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
		in.held.Add(int64(-done))
		s.setBehind(q.drop(done))
		if err != nil {
			in.rest(err)
			return pages
		}
		in.failing = false
	}
	delete(in.queues, s)
	return pages
}

// rest has the store asked again a moment later.
func (in *inbox) rest(err error) {
	if !in.failing {
		in.failing = true
		in.conn.emit(StoreFailed{Err: &StoreError{Op: "read", Err: err}})
	}
	in.conn.later(storePause, in.wake)
}

// page returns how many messages s has room for, within what is read at once.
func (q *inboxQueue) page(s *Subscription) (n int) {
	bytes := 0
	for n < len(q.items) && n < inboxPage && bytes < inboxPageBytes && !s.starved(n, bytes, q.items[n].size) {
		bytes += q.items[n].size
		n++
	}
	return n
}

// starved reports whether a message does not fit besides what is pending and n
// more, and sees to it that the inbox is told when there is room.
func (s *Subscription) starved(n, bytes, size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending, held := s.box.len(), s.box.size()
	if s.ended || pending+n == 0 || pending+n < s.opts.messages && held+bytes+size <= s.opts.bytes {
		return false
	}
	s.hungry = n == 0
	return true
}

// read hands items to s and returns how many there were before an error.
func (in *inbox) read(s *Subscription, items []*inboxItem) (done int, err error) {
	keys := make([]store.Key, len(items))
	for i, it := range items {
		keys[i] = store.Key{Kind: store.Inbox, Seq: it.key}
	}
	msgs := make([]Message, 0, len(items))
	err = in.conn.out.keep.session.Read(keys, func(i int, value []byte) error {
		var r storedInbox
		if err := r.decode(value); err != nil {
			return &store.DamageError{Key: keys[i], Problem: err.Error()}
		}
		r.msg.sub, r.msg.ref = s, uint32(r.flags)|items[i].gen<<refShift
		msgs = append(msgs, r.msg)
		return nil
	})
	done = len(msgs)
	in.give(s, msgs)
	return done, err
}

// unreadable reports whether the record will not be had because of err. When it is
// damaged, s is done with it. What cannot be read for long stays where it is: a
// later process may be able to.
func (in *inbox) unreadable(s *Subscription, it *inboxItem, err error) bool {
	_, damaged := errors.AsType[*store.DamageError](err)
	switch {
	case damaged:
		in.conn.emit(StoreDamaged{Err: err})
	case errors.Is(err, store.ErrNotFound):
	default:
		if it.reads++; it.reads < storeFailures {
			return false
		}
		in.conn.emit(StoreFailed{Err: &StoreError{Op: "read", Err: err}})
		in.conn.ledger.forsake(it)
		return true
	}
	in.conn.ledger.doneAll([]Message{it.stub(s)})
	return true
}

// stub is the message without what is in the store.
func (it *inboxItem) stub(s *Subscription) Message {
	return Message{Topic: it.topic, QoS: 1, sub: s, ref: it.gen << refShift}
}

// discard is the end of what waits for s, which has ended.
func (in *inbox) discard(s *Subscription, q *inboxQueue) {
	msgs := make([]Message, len(q.items))
	for i, it := range q.items {
		msgs[i] = it.stub(s)
	}
	in.held.Add(int64(-len(msgs)))
	q.items = nil
	in.give(s, msgs)
	if s.holder {
		in.conn.emit(MessageDropped{Topic: s.name(), Err: s.Err(), Total: s.dropped.Load()}) // nobody else can tell
	}
}

// takers returns who gets a message of the inbox that nobody has yet: those that
// have a filter which it came for. While strict, in the grace of a restart, it
// waits for these. Afterwards whoever matches gets it, else the catch-all.
func (t *routes) takers(topic string, names []string, strict bool) []*Subscription {
	named, catch := t.named(topic, names)
	if len(named) > 0 || strict && len(names) > 0 {
		return named
	}
	targets, _, _ := t.match(topic, nil)
	for i := range targets {
		if targets[i].single {
			named = append(named, targets[i].sub)
		}
	}
	if len(named) == 0 && catch != nil {
		named = append(named, catch)
	}
	return named
}

// named returns the subscriptions that have a filter of names, and the catch-all,
// which stands for the empty name.
func (t *routes) named(topic string, names []string) (subs []*Subscription, catch *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var targets []target
	for _, name := range names {
		if name == "" && t.catch != nil {
			targets = append(targets, target{sub: t.catch})
		}
		if r := t.filters[name]; r != nil {
			for _, m := range r.members {
				targets = append(targets, target{sub: m.sub, filter: name})
			}
		}
	}
	targets = withoutRelays(targets, topic)
	markTargets(targets)
	for i := range targets {
		if targets[i].single {
			subs = append(subs, targets[i].sub)
		}
	}
	return subs, t.catch
}
