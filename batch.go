package mqtt

import (
	"hash/maphash"
	"time"

	"github.com/millrace/mqtt/codec"
)

// batch is consecutive messages of one subscription, which ledger, subscription and
// counters take together. A message for several subscriptions, or for none, is a batch
// of its own. A batch ends with what one read of the socket brought, at the latest: no
// message waits here for the next read.
type batch struct {
	sub      *Subscription
	msgs     []Message
	hashes   []uint64 // of topic and payload, at QoS 1 and 2
	needsAck bool     // some message is of QoS 1 or 2
}

// batchTo adds a message to the batch of s, or begins it.
func (r *reader) batchTo(t *topicEntry, p *codec.PublishView, s *Subscription, flags uint32) error {
	if s != r.current.sub || len(r.current.msgs) == maxBatch {
		if err := r.flush(); err != nil {
			return err
		}
		r.current.sub = s
	}
	m := r.add(t, p)
	m.Payload, m.to = r.own(p.Payload), &s.owner
	m.ref |= flags
	return nil
}

// add puts a message into the batch, without payload and subscription.
func (r *reader) add(t *topicEntry, p *codec.PublishView) *Message {
	var hash uint64
	if p.QoS > 0 {
		hash = maphash.Bytes(r.topics.seed, p.Payload) ^ t.hash
		r.current.needsAck = true
	}
	r.current.hashes = append(r.current.hashes, hash)
	m := r.current.next()
	m.Topic, m.id, m.QoS = t.topic, p.PacketID, QoS(p.QoS)
	if p.Dup {
		m.ref = flagDup
	}
	if len(p.Props) > 0 {
		m.Properties = messageProperties(p)
	}
	return m
}

// next returns a message at the end of the batch, which is filled in where it is:
// a value made elsewhere costs a copy that waits for the stores before it.
func (u *batch) next() *Message {
	n := len(u.msgs)
	if n == cap(u.msgs) {
		u.msgs = append(u.msgs, Message{})
	} else {
		u.msgs = u.msgs[:n+1]
	}
	return &u.msgs[n]
}

// flush hands on the batch.
func (r *reader) flush() error {
	if len(r.current.msgs) == 0 {
		return nil
	}
	s := r.current.sub
	msgs, err := r.enter([]*owner{&s.owner})
	if e := r.deliver(s, msgs); err == nil {
		err = e
	}
	r.current.reset()
	return err
}

func (u *batch) reset() {
	clear(u.msgs)
	*u = batch{msgs: u.msgs[:0], hashes: u.hashes[:0]}
}

// enter records the batch, which subs have to finish with, in ledger and counters,
// and returns those of its messages that are new, which are to be delivered.
func (r *reader) enter(subs []*owner) ([]Message, error) {
	s := r.l.session
	msgs := r.current.msgs
	var err error
	if r.current.needsAck {
		var again int
		var over bool
		msgs, again, over = s.ledger.arriveAll(msgs, r.current.hashes, r.now, subs)
		r.acksDue = true
		s.stats.duplicates.Add(uint64(again))
		if over {
			err = overReceiveMaximum()
		}
	}
	s.stats.received.Add(uint64(len(msgs)))
	return msgs, err
}

// deliver brings msgs to s and does what follows. They are in the ledger: also
// when the link ends meanwhile each must find its place, for the server's next
// copy will be taken for the redelivery that it is.
func (r *reader) deliver(s *Subscription, msgs []Message) (err error) {
	for len(msgs) > 0 {
		at, n, result := s.deliver(msgs, r.l.version, r.now)
		some := msgs[:n]
		msgs = msgs[n:]
		switch {
		case result == notDelivered && at.isBacklog():
			r.l.session.unclaimed(some)
		case result == notDelivered, result == deliveredToChannel && !at.opts.manual:
			if r.l.session.ledger.doneAll(some) {
				r.acksDue = true // a pause of the reader settled what was due by then
			}
		case result == deliveredOverLimit && err == nil:
			err = r.backPressure(at, false)
		}
	}
	return err
}

// own copies a payload out of the read buffer: small ones from a slab that
// several messages share.
func (r *reader) own(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if len(p) > readSlab/8 {
		return append([]byte(nil), p...)
	}
	if len(r.slab)+len(p) > cap(r.slab) {
		r.slab = make([]byte, 0, readSlab)
	}
	at := len(r.slab)
	r.slab = append(r.slab, p...)
	return r.slab[at:len(r.slab):len(r.slab)]
}

// backPressure keeps a subscription that is above its limit from getting more: it is
// evicted, or the link is not read until the subscription has room, has made no progress
// for the time of [WithStuckAfter], or the link ends. Messages held for a Subscribe to
// come are given up at the end of their grace alone. With arrival the limit is that of the
// messages that the reader enters into the inbox.
func (r *reader) backPressure(sub *Subscription, arrival bool) error {
	l := r.l
	s := l.session
	if sub.beforeSuback() {
		return nil // SUBACK may stand behind this message
	}
	if sub.opts.slow == SlowEvict && !sub.placeholder && (!arrival || sub.mailboxFull()) {
		s.evict(sub)
		return nil
	}
	select {
	case <-s.unpauseReader:
		return nil
	default:
	}
	r.handOnAcks()
	s.events.emit(SlowConsumer{Filter: sub.name(), Pending: sub.Stats().Pending, Dropped: sub.dropped.Load(), Started: true, Paused: true})
	l.paused.Store(true)
	defer func() {
		l.resumed.Store(l.since())
		l.paused.Store(false)
	}()
	const looks = 16 // at the progress, in the time of WithStuckAfter
	look := time.NewTicker(max(1, s.cfg.stuckAfter/looks))
	defer look.Stop()
	_, last := sub.roomFor(arrival)
	since := time.Now() // of the last progress
	for {
		room, _ := sub.roomFor(arrival)
		select {
		case <-room:
			l.received.Store(l.since())
			return nil
		case <-look.C:
		case <-s.unpauseReader:
			return nil
		case <-l.ignoreBegun:
			return nil
		case <-l.dead:
			return l.cause
		}
		room, now := sub.roomFor(arrival)
		select {
		case <-room: // it came at the same time
			l.received.Store(l.since())
			return nil
		default:
		}
		switch {
		case now != last, arrival && !sub.stuck():
			last, since = now, time.Now()
		case time.Since(since) >= s.cfg.stuckAfter && sub.opts.slow != SlowBlock && !sub.placeholder:
			s.evict(sub)
			return nil
		}
	}
}
