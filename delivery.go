package mqtt

import (
	"runtime"
	"time"
)

// fate is what a subscription did with a message that the reader brought.
type fate uint8

const (
	fateHanded  fate = iota // it is in the channel
	fatePending             // it waits in the mailbox
	fateOver                // it waits in the mailbox, which is above its limit
	fateGone                // the subscription has ended or gave it up: nothing waits for it
)

// deliver brings a message. The reader calls it, and nobody else; it never blocks.
func (s *Subscription) deliver(m *Message, v Version) fate {
	s.mu.Lock()
	for try := range 2 {
		if to := s.successor(m); to != nil {
			s.pass(m, to)
			s.mu.Unlock()
			return to.deliver(m, v)
		}
		if s.ended {
			s.mu.Unlock()
			return fateGone
		}
		if s.form != formChannel || s.pumps > 0 || s.paused || s.box.len() > 0 {
			break
		}
		select {
		case s.ch <- *m:
			s.delivered.Add(1)
			s.mu.Unlock()
			return fateHanded
		default:
		}
		if try == 0 {
			// A consumer that only waits for the processor takes its messages now.
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
	}
	given, f := s.hold(*m)
	s.slowed = s.slowed || f == fateGone || len(given) > 0
	event := s.spell()
	if f == fatePending && !s.paused {
		s.startPumps()
	}
	if f == fatePending && s.over(v) {
		f = fateOver
	}
	s.mu.Unlock()
	s.giveUp(given)
	if event != nil {
		s.conn.events.emit(event)
	}
	return f
}

// hold puts m in the mailbox and returns the messages that gave way to it.
func (s *Subscription) hold(m Message) (given []Message, f fate) {
	if s.opts.slow == SlowLatest {
		if old, replaced := s.box.replace(m); replaced {
			return []Message{old}, fatePending
		}
	}
	if s.opts.slow != SlowBlock && s.opts.slow != SlowEvict && s.full(&m) {
		if m.QoS == 0 && s.opts.slow == SlowDropNewest {
			s.dropped.Add(1)
			return nil, fateGone
		}
		given = s.makeWay(&m)
		if m.QoS == 0 && s.full(&m) {
			s.dropped.Add(1)
			return given, fateGone // all that is held is QoS 1 and 2
		}
	}
	s.box.push(m, time.Now())
	s.wakeIterators()
	return given, fatePending
}

// full reports whether m goes beyond the limits. s.mu is held.
func (s *Subscription) full(m *Message) bool {
	return s.box.len() >= s.opts.messages || s.box.size()+mailSize(m) > s.opts.bytes
}

// makeWay takes out the oldest QoS 0 messages until m fits, or none is left.
func (s *Subscription) makeWay(m *Message) (given []Message) {
	for s.full(m) {
		old, ok := s.box.drop0()
		if !ok {
			break
		}
		given = append(given, old)
	}
	return given
}

func (s *Subscription) wakeIterators() {
	if s.form == formIterator && !s.paused {
		s.idle.Signal()
	}
}

// giveUp acknowledges and counts messages that gave way to others.
func (s *Subscription) giveUp(msgs []Message) {
	if len(msgs) > 0 {
		s.discard(msgs, false)
	}
}

// spell returns the event that begins or ends a slow spell, or nil. s.mu is held.
func (s *Subscription) spell() Event {
	n := s.box.len()
	switch {
	case !s.slow && n > 0 && (s.slowed || n > max(16, s.opts.buffer)):
		s.slow = true
	case s.slow && n == 0:
		s.slow, s.slowed = false, false
	default:
		return nil
	}
	return SlowConsumer{Filter: s.name(), Pending: n, Bytes: s.box.size(), Dropped: s.dropped.Load(), Started: s.slow}
}

// over reports whether the reader has to wait for this subscription, or end it:
// it holds more than its limit, of which QoS 0 is no part unless it blocks. s.mu
// is held.
func (s *Subscription) over(v Version) bool {
	if s.ended {
		return false
	}
	n, bytes := s.box.held()
	whole := s.opts.slow == SlowBlock || s.opts.slow == SlowEvict
	if whole {
		n, bytes = s.box.len(), s.box.size()
	}
	// On 5.0 the Receive Maximum bounds the number of QoS 1 and 2.
	return bytes > s.opts.bytes || (whole || v != V5) && n > s.opts.messages
}

// roomFor returns a channel that is closed when the subscription holds no more
// than half its limit, or has ended, and a count that moves when it makes progress.
func (s *Subscription) roomFor() (<-chan struct{}, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.madeRoom()
	return room, s.moves
}

// madeRoom wakes a reader that waits, once it pays to: woken for each message it
// would only change places with the consumer. s.mu is held.
func (s *Subscription) madeRoom() {
	if s.room != nil && (s.ended || s.box.len() <= s.opts.messages/2 && s.box.size() <= s.opts.bytes/2) {
		close(s.room)
		s.room = nil
	}
	if s.quiet != nil && (s.ended || s.box.len() == 0 && s.hands == 0 && !(s.opts.manual && s.conn.ledger.owes(s))) {
		close(s.quiet)
		s.quiet = nil
	}
}

// startPumps starts what hands over pending messages, if it does not run. A
// pump is owned by the subscription; it ends when nothing is pending or the
// subscription is paused or ended. The Conn waits for it unless it runs a
// handler. s.mu is held.
func (s *Subscription) startPumps() {
	if s.sink == nil || s.paused || s.ended {
		return
	}
	limit := 1
	if s.form == formHandler {
		limit = s.opts.workers
	}
	for s.pumps < limit && s.pumps < s.box.len() {
		s.pumps++
		if s.form == formHandler {
			go s.pump() // it runs user code, which may itself wait for the end of the Conn
			continue
		}
		s.conn.pumps.Go(s.pump)
	}
}

// handful is how many messages a pump takes at a time for a channel.
const handful = 32

// handfulBytes bounds a handful of large ones.
const handfulBytes = 64 << 10

// pump hands over pending messages in order until there is none. The last pump
// of an ended subscription closes its channel.
func (s *Subscription) pump() {
	var hand [handful]Message
	for {
		s.mu.Lock()
		if s.ended || s.paused || s.box.len() == 0 {
			s.pumps--
			if s.ended && s.pumps == 0 {
				s.closeSink()
			}
			event := s.spell()
			s.mu.Unlock()
			if event != nil {
				s.conn.events.emit(event)
			}
			return
		}
		msgs := s.takeHandful(hand[:0])
		interrupt := s.interrupt
		s.mu.Unlock()
		s.handOver(msgs, interrupt)
		clear(msgs)
	}
}

// takeHandful takes as many messages as go over together: several for a channel,
// one for a body that may take its time. s.mu is held.
func (s *Subscription) takeHandful(hand []Message) []Message {
	most, size := 1, 0
	if s.form == formChannel {
		most = handful
	}
	for len(hand) < most && s.box.len() > 0 && size < handfulBytes {
		m := s.take()
		size += len(m.Payload)
		hand = append(hand, m)
	}
	return hand
}

// handOver gives msgs to the consumer in order, and puts back what an interrupt
// left. What the channel has is acknowledged before waiting for room in it.
func (s *Subscription) handOver(msgs []Message, interrupt <-chan struct{}) {
	given := 0
	for i := range msgs {
		if s.form == formChannel {
			select {
			case s.ch <- msgs[i]:
				continue
			default:
			}
		}
		s.handedOver(msgs[given:i]...)
		given = i
		if !s.sink(msgs[i], interrupt) {
			s.putBack(msgs[i:]...)
			return
		}
	}
	s.handedOver(msgs[given:]...)
}
