package mqtt

import (
	"runtime"
	"time"
)

// This file brings messages to a subscription: into its channel or its mailbox, within its
// limits. pump.go takes them from the mailbox to the consumer.

// deliverResult is what a subscription did with messages that the reader brought.
type deliverResult uint8

const (
	deliveredToChannel deliverResult = iota // they are in the channel
	deliveredToMailbox                      // they wait in the mailbox, if they did not give way as QoS 0
	deliveredOverLimit                      // the same, and the mailbox is above its limit
	notDelivered                            // the subscription has ended: nothing waits for them
)

// maxBatch is the most messages of a batch: how many the ledger and a subscription
// take under one lock.
const maxBatch = 32

// deliver brings messages, and returns how many of the first had which result, and the
// subscription that they reached: s, or one that took over from it. The caller goes
// on with the rest. Only the reader calls it, and for the QoS 1 and 2
// of a durable inbox the committer; it never blocks.
func (s *Subscription) deliver(msgs []Message, v Version, now time.Time) (at *Subscription, n int, result deliverResult) {
	s.mu.Lock()
	for try := range 2 {
		if s.ended || len(s.forwards) > 0 {
			if msgs, at, n, result = s.deliverLateLocked(msgs, v, now); n > 0 {
				return at, n, result
			}
		}
		if s.form != formChannel || s.pumps > 0 || s.paused || s.box.len() > 0 {
			break
		}
		if n := s.sendLocked(msgs); n > 0 {
			s.mu.Unlock()
			return s, n, deliveredToChannel
		}
		if try == 0 {
			// A consumer that only waits for the processor takes its messages now.
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
	}
	n, result = s.storeAndUnlock(msgs, v, now)
	return s, n, result
}

// storeAndUnlock puts msgs in the mailbox, up to the first that has consequences, and
// releases s.mu, which the caller holds.
func (s *Subscription) storeAndUnlock(msgs []Message, v Version, now time.Time) (n int, result deliverResult) {
	var given []Message
	var event Event
	for result = deliveredToMailbox; n < len(msgs) && result == deliveredToMailbox && len(given) == 0 && event == nil; n++ {
		var held bool
		given, held = s.holdLocked(&msgs[n], now)
		s.droppedSince = s.droppedSince || !held || len(given) > 0
		event = s.slowEventLocked()
		if held && s.overLocked(v) {
			result = deliveredOverLimit
		}
	}
	s.startPumpsLocked()
	s.mu.Unlock()
	s.giveUp(given)
	if event != nil {
		s.up.events.emit(event)
	}
	return n, result
}

// holdLocked puts m in the mailbox, unless it is QoS 0 and gives way itself, and
// returns the messages that gave way to it.
func (s *Subscription) holdLocked(m *Message, now time.Time) (given []Message, held bool) {
	if s.opts.slow == SlowLatest {
		if old, replaced := s.box.replace(*m, now); replaced {
			return []Message{old}, true
		}
	}
	if s.opts.slow != SlowBlock && s.opts.slow != SlowEvict && s.fullLocked(m) {
		if m.QoS == 0 && s.opts.slow == SlowDropNewest {
			s.dropped.Add(1)
			return nil, false
		}
		given = s.makeWayLocked(m)
		if m.QoS == 0 && s.fullLocked(m) {
			s.dropped.Add(1)
			return given, false // all that is held is QoS 1 and 2
		}
	}
	s.box.push(m, now)
	s.wakeIteratorsLocked()
	return given, true
}

// fullLocked reports whether m goes beyond the limits.
func (s *Subscription) fullLocked(m *Message) bool {
	return s.box.len() >= s.opts.messages || s.box.size()+mailSize(m) > s.opts.bytes
}

// makeWayLocked takes out the oldest QoS 0 messages until m fits, or none is left.
func (s *Subscription) makeWayLocked(m *Message) (given []Message) {
	for s.fullLocked(m) {
		old, ok := s.box.drop0()
		if !ok {
			break
		}
		given = append(given, old)
	}
	return given
}

// slowEventLocked returns the event that says that the consumer has become slow, or is
// no longer, else nil.
func (s *Subscription) slowEventLocked() Event {
	n := s.box.len()
	switch {
	case s.placeholder: // it has no consumer
		return nil
	case !s.isSlow && n > 0 && (s.droppedSince || n > max(16, s.opts.buffer)):
		s.isSlow = true
	case s.isSlow && n == 0:
		s.isSlow, s.droppedSince = false, false
	default:
		return nil
	}
	return SlowConsumer{Filter: s.name(), Pending: n, Bytes: s.box.size(), Dropped: s.dropped.Load(), Started: s.isSlow}
}

// overLocked reports whether the reader has to wait for this subscription, or end it:
// it holds more than its limit, of which QoS 0 is no part unless it blocks.
func (s *Subscription) overLocked(v Version) bool {
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

// giveUp acknowledges and counts messages that gave way to others.
func (s *Subscription) giveUp(msgs []Message) {
	if len(msgs) > 0 {
		s.discard(msgs, leaveAcked)
		s.madeRoom()
	}
}

// madeRoom is madeRoomLocked for a caller without the lock.
func (s *Subscription) madeRoom() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.madeRoomLocked()
}

// beforeSuback reports whether Subscribe has not returned s yet, so that it cannot have
// a consumer.
func (s *Subscription) beforeSuback() bool {
	if s.placeholder || s.opts.async {
		return false
	}
	select {
	case <-s.ready:
		return false
	default:
		return true
	}
}

// roomFor returns a channel that is closed when the subscription holds no more than half
// its limit, or has ended, and a count that changes when it makes progress. With arrival
// the limit is that of the messages that the reader enters into the inbox for s.
func (s *Subscription) roomFor(arrival bool) (<-chan struct{}, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		s.room = make(chan struct{})
	}
	room := s.room
	s.awaitsArrivalRoom = arrival
	s.madeRoomLocked()
	return room, s.progress
}

// madeRoomLocked wakes a reader that waits, once it pays to: woken for each message it
// would only change places with the consumer.
func (s *Subscription) madeRoomLocked() {
	if s.room != nil && (s.ended || !s.awaitsArrivalRoom && s.roomyLocked() || s.awaitsArrivalRoom && s.belowArrivalLimit()) {
		close(s.room)
		s.room = nil
	}
	if s.wantsMore && s.synced && s.wantsRefillLocked() {
		s.wantsMore = false
		s.up.inbox.wake()
	}
	s.tellQuietLocked()
}

// tellQuiet is tellQuietLocked for a caller without the lock.
func (s *Subscription) tellQuiet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellQuietLocked()
}

// tellQuietLocked wakes a Drain that waits, once nothing is pending.
func (s *Subscription) tellQuietLocked() {
	if s.quiet != nil && s.isQuietLocked() {
		close(s.quiet)
		s.quiet = nil
	}
}

// roomyLocked reports whether s holds no more than half its limit, or has ended.
func (s *Subscription) roomyLocked() bool {
	return s.ended || s.box.len() <= s.opts.messages/2 && s.box.size() <= s.opts.bytes/2
}

// isQuietLocked reports whether s has nothing left to hand over, in the durable inbox
// neither, and under WithManualAck nothing to be acknowledged. Messages in the inbox
// for a Subscribe that has not returned stay there.
func (s *Subscription) isQuietLocked() bool {
	if s.ended {
		return true
	}
	if s.box.len()+s.inDelivery > 0 {
		return false
	}
	switch {
	case s.up.inbox != nil:
		return !s.returned || s.synced && !s.up.ledger.hasUnfinished(&s.owner)
	case s.opts.manual:
		return !s.up.ledger.hasUnfinished(&s.owner)
	}
	return true
}
