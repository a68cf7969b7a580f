package mqtt

import (
	"hash/maphash"
	"time"

	"github.com/millrace/mqtt/codec"
)

// run is what the reader has in hand: consecutive messages of one subscription,
// which ledger, subscription and counters hear of at once. A message for several
// subscriptions, or for none, is a run of its own. A run ends with the batch at
// the latest: nothing waits here for the next read.
type run struct {
	sub    *Subscription
	msgs   []Message
	hashes []uint64 // of topic and payload, at QoS 1 and 2
	owes   bool     // some message is of QoS 1 or 2
}

// maxRun is the most messages of a run: how many the ledger and a subscription
// take under one lock.
const maxRun = 32

// gather adds a message to the run of s, or begins it.
func (r *reader) gather(t *topicEntry, p *codec.PublishView, s *Subscription, flags uint32) error {
	if s != r.run.sub || len(r.run.msgs) == maxRun {
		if err := r.flush(); err != nil {
			return err
		}
		r.run.sub = s
	}
	m := r.add(t, p)
	m.Payload, m.to = r.own(p.Payload), &s.owner
	m.ref |= flags
	return nil
}

// add puts a message into the run, without payload and subscription.
func (r *reader) add(t *topicEntry, p *codec.PublishView) *Message {
	var hash uint64
	if p.QoS > 0 {
		hash = maphash.Bytes(r.topics.seed, p.Payload) ^ t.hash
		r.run.owes = true
	}
	r.run.hashes = append(r.run.hashes, hash)
	m := r.run.next()
	m.Topic, m.id, m.QoS = t.topic, p.PacketID, QoS(p.QoS)
	if p.Dup {
		m.ref = flagDup
	}
	if len(p.Props) > 0 {
		m.Properties = messageProperties(p)
	}
	return m
}

// next returns a message at the end of the run, which is filled in where it is:
// a value made elsewhere costs a copy that waits for the stores before it.
func (u *run) next() *Message {
	n := len(u.msgs)
	if n == cap(u.msgs) {
		u.msgs = append(u.msgs, Message{})
	} else {
		u.msgs = u.msgs[:n+1]
	}
	return &u.msgs[n]
}

// flush hands on the run.
func (r *reader) flush() error {
	if len(r.run.msgs) == 0 {
		return nil
	}
	s := r.run.sub
	msgs, err := r.enter([]*owner{&s.owner})
	if e := r.deliver(s, msgs); err == nil {
		err = e
	}
	r.run.reset()
	return err
}

func (u *run) reset() {
	clear(u.msgs)
	*u = run{msgs: u.msgs[:0], hashes: u.hashes[:0]}
}

// enter records the run, which subs have to finish with, in ledger and counters,
// and returns what of it is to be delivered: not what came before.
func (r *reader) enter(subs []*owner) ([]Message, error) {
	s := r.l.session
	msgs := r.run.msgs
	var err error
	if r.run.owes {
		var again int
		var over bool
		msgs, again, over = s.ledger.arriveAll(msgs, r.run.hashes, r.now, subs)
		r.owes = true
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
		at, n, f := s.deliver(msgs, r.l.version, r.now)
		some := msgs[:n]
		msgs = msgs[n:]
		switch {
		case f == fateGone && at.isBacklog():
			r.l.session.unclaimed(some)
		case f == fateGone, f == fateHanded && !at.opts.manual:
			if r.l.session.ledger.doneAll(some) {
				r.owes = true // a pause within the batch settled what was due by then
			}
		case f == fateOver && err == nil:
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

const readSlab = 8 << 10

// backPressure does what "decided" 10 says when a subscription is above its
// limit: it is evicted, or the link is not read until it made room, lost its
// patience, or the link ends. What is held for a Subscribe to come is given up
// by its grace alone. For an intake the limit is that of what sub has in the inbox.
func (r *reader) backPressure(sub *Subscription, intake bool) error {
	l := r.l
	s := l.session
	if sub.awaited() {
		return nil // SUBACK may stand behind this message
	}
	if sub.opts.slow == SlowEvict && !sub.holder && (!intake || sub.crammed()) {
		s.evict(sub)
		return nil
	}
	select {
	case <-s.lift:
		return nil
	default:
	}
	r.settle()
	s.events.emit(SlowConsumer{Filter: sub.name(), Pending: sub.Stats().Pending, Dropped: sub.dropped.Load(), Started: true, Paused: true})
	l.paused.Store(true)
	defer func() {
		l.resumed.Store(l.since())
		l.paused.Store(false)
	}()
	timer := time.NewTimer(s.cfg.stuckAfter)
	defer timer.Stop()
	_, last := sub.roomFor(intake)
	for {
		room, moves := sub.roomFor(intake)
		select {
		case <-room:
			l.received.Store(l.since())
			return nil
		case <-timer.C:
		case <-s.lift:
			return nil
		case <-l.leave:
			return nil
		case <-l.dead:
			return l.cause
		}
		room, now := sub.roomFor(intake)
		select {
		case <-room: // it came at the same time
			l.received.Store(l.since())
			return nil
		default:
		}
		if now == last && sub.opts.slow != SlowBlock && !sub.holder && (!intake || sub.stuck()) {
			s.evict(sub)
			return nil
		}
		last = moves
		timer.Reset(s.cfg.stuckAfter)
	}
}
