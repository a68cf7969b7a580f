package mqtt

import "time"

// fate is what a subscription did with a message that the reader brought.
type fate uint8

const (
	fateHanded  fate = iota // it is in the channel
	fatePending             // it waits in the mailbox
	fateGone                // the subscription has ended or gave it up: nothing waits for it
)

// deliver brings a message. The reader calls it, and nobody else; it never blocks.
func (s *Subscription) deliver(m Message) fate {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return fateGone
	}
	if s.form == formChannel && s.pumps == 0 && !s.paused && s.box.len() == 0 {
		select {
		case s.ch <- m:
			s.delivered.Add(1)
			s.mu.Unlock()
			return fateHanded
		default:
		}
	}
	given, f := s.hold(m)
	event := s.spell()
	if f == fatePending && !s.paused {
		s.startPumps()
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
	full := s.box.len() >= s.opts.messages || s.box.bytes+mailSize(&m) > s.opts.bytes
	switch {
	case s.opts.slow == SlowLatest:
		if old, replaced := s.box.replace(m); replaced {
			return []Message{old}, fatePending
		}
	case !full, m.QoS > 0, s.opts.slow == SlowBlock, s.opts.slow == SlowEvict:
	case s.opts.slow == SlowDropNewest:
		s.dropped.Add(1)
		return nil, fateGone
	default:
		for s.box.len() >= s.opts.messages || s.box.bytes+mailSize(&m) > s.opts.bytes {
			old, ok := s.box.drop0()
			if !ok {
				s.dropped.Add(1)
				return given, fateGone // all that is held is QoS 1 and 2
			}
			given = append(given, old)
		}
	}
	s.box.push(m)
	s.wakeIterators()
	return given, fatePending
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
	case !s.slow && (n > max(16, s.opts.buffer) || s.dropped.Load() > 0 && n >= s.opts.messages):
		s.slow = true
	case s.slow && n == 0:
		s.slow = false
	default:
		return nil
	}
	return SlowConsumer{Filter: s.name(), Pending: n, Bytes: s.box.bytes, Dropped: s.dropped.Load(), Started: s.slow}
}

// over reports whether the reader has to wait for this subscription, or end it:
// it holds more than its limit, of which QoS 0 is no part unless it blocks.
func (s *Subscription) over(v Version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.opts.slow == SlowLatest {
		return false
	}
	if s.box.bytes > s.opts.bytes {
		return true
	}
	// On 5.0 the Receive Maximum bounds the number of QoS 1 and 2.
	byCount := v != V5 || s.opts.slow == SlowBlock || s.opts.slow == SlowEvict
	return byCount && s.box.len() > s.opts.messages
}

// roomFor returns a channel that is closed when the subscription has taken a
// message or ended, and when it last made progress.
func (s *Subscription) roomFor() (<-chan struct{}, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		s.room = make(chan struct{})
	}
	return s.room, s.progress
}

// madeRoom wakes a reader that waits. s.mu is held.
func (s *Subscription) madeRoom() {
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// startPumps starts what hands over pending messages, if it does not run. A
// pump is owned by the subscription; it ends when nothing is pending or the
// subscription is paused or ended, and the Conn waits for it. s.mu is held.
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
		s.conn.pumps.Go(s.pump)
	}
}

// pump hands over pending messages in order until there is none. The last pump
// of an ended subscription closes its channel.
func (s *Subscription) pump() {
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
		m := s.take()
		interrupt := s.interrupt
		s.mu.Unlock()
		if s.sink(m, interrupt) {
			s.handedOver(m)
		} else {
			s.putBack(m)
		}
	}
}
