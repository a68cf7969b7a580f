package mqtt

// Messages in the hands of pumps and iterators: on their way from the mailbox to the
// application, or back.

// taken notes that n messages went into the caller's hands. s.mu is held.
func (s *Subscription) taken(n int) {
	s.hands += n
	s.moves++
	s.madeRoom()
}

// handedOver notes that the consumer has msgs.
func (s *Subscription) handedOver(msgs ...Message) {
	if len(msgs) == 0 {
		return
	}
	switch {
	case !s.opts.manual:
		s.up.finished(msgs...) // before Drain, which waits for hands, goes on
	case s.up.inbox != nil:
		s.up.ledger.handed(msgs)
	}
	s.delivered.Add(uint64(len(msgs))) // before Drain, which counts them, goes on
	s.mu.Lock()
	s.released(len(msgs))
	s.moves++
	s.madeRoom()
	event := s.spell()
	s.mu.Unlock()
	if event != nil {
		s.up.events.emit(event)
	}
}

// putBack puts msgs, which were not handed over, in front of the mailbox.
func (s *Subscription) putBack(msgs ...Message) {
	s.restore(len(msgs), msgs...)
}

// released notes that n messages left the caller's hands. s.mu is held.
func (s *Subscription) released(n int) {
	if s.hands -= n; s.hands == 0 {
		s.idle.Broadcast() // withdraw may wait
		if s.moving {
			s.moving = false
			close(s.still)
		}
		if in := s.up.inbox; in != nil && s.ended {
			in.lookAgain()
		}
	}
}

// restore puts msgs in front of the mailbox, or where they belong by now; n of
// them were in hands here.
func (s *Subscription) restore(n int, msgs ...Message) {
	s.mu.Lock()
	s.released(n)
	var rest []Message
	for i := len(msgs) - 1; i >= 0; i-- {
		switch m := msgs[i]; {
		case s.returns(&m):
			s.up.inbox.giveBack(s, []Message{m})
		case s.successor(&m) != nil:
			to := s.successor(&m)
			s.pass(&m, to)
			to.restore(0, m)
		case s.ended:
			rest = append(rest, m)
		default:
			s.box.unpop(m)
			s.startPumps()
			s.wakeIterators()
		}
	}
	leave := s.leave
	s.mu.Unlock()
	s.discard(rest, leave)
}

// returns reports whether m goes back to the inbox, since s hands over nothing any
// more. s.mu is held.
func (s *Subscription) returns(m *Message) bool {
	return s.up.inbox != nil && m.QoS > 0 && (len(s.heirs) > 0 || s.ended && s.leave == leaveInbox)
}

// discard acknowledges messages that nobody will have, unless the server keeps them.
func (s *Subscription) discard(msgs []Message, leave leaving) {
	if leave == leaveServer || len(msgs) == 0 {
		return
	}
	s.dropped.Add(uint64(len(msgs)))
	s.up.finished(msgs...)
}
