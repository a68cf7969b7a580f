package mqtt

// This file says how much a subscription has, here and in the durable inbox, and when
// it takes more.

// overArrivalLimit reports whether no more may be entered into the inbox for s. What an
// earlier process left does not count: it must not keep a new link from being read.
func (s *Subscription) overArrivalLimit() bool {
	return !s.usage.coming.within(s.opts.messages, s.opts.bytes) || s.overUnackedLimit()
}

// overUnackedLimit reports whether the application has too many messages that it has
// not acknowledged. It may have more of these than may wait for it, but not without end.
func (s *Subscription) overUnackedLimit() bool {
	return !s.usage.unacked.within(max(s.opts.messages, defaultPending), max(s.opts.bytes, defaultPendingBytes))
}

// belowArrivalLimit reports whether a reader that waited may enter more for s.
func (s *Subscription) belowArrivalLimit() bool {
	return s.usage.coming.within(s.opts.messages/2, s.opts.bytes/2) && !s.overUnackedLimit()
}

// stuck reports whether the consumer, not the disk, keeps s from having room: the consumer
// has something to take or to finish.
func (s *Subscription) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.box.len() > 0 || s.inDelivery > 0 || s.overUnackedLimit()
}

// noRoomFor reports whether a message of the inbox does not fit besides what is
// pending and n more. The inbox is woken when there is room then.
func (s *Subscription) noRoomFor(n, bytes, size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.forwards) > 0 {
		return false // deliver reports it
	}
	pending, held := s.countedLocked()
	messages, most := s.part()
	if s.synced && (pending+n == 0 || pending+n < messages && held+bytes+size <= most) {
		return false
	}
	s.wantsMore = n == 0
	return true
}

// countedLocked returns how much of the mailbox its limits are about.
func (s *Subscription) countedLocked() (n, bytes int) {
	if s.opts.slow == SlowBlock || s.opts.slow == SlowEvict {
		return s.box.len(), s.box.size()
	}
	return s.box.held() // QoS 0 gives way
}

// part returns how much of its limits the inbox may fill: where one QoS 0 message
// too many ends the subscription, that is half.
func (s *Subscription) part() (messages, bytes int) {
	if s.opts.slow == SlowEvict {
		return s.opts.messages / 2, s.opts.bytes / 2
	}
	return s.opts.messages, s.opts.bytes
}

// mailboxFull reports whether the mailbox has no room for the inbox, or the application
// has too many messages that it has not acknowledged.
func (s *Subscription) mailboxFull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := s.countedLocked()
	messages, most := s.part()
	return n > 0 && (n >= messages || bytes >= most) || s.overUnackedLimit()
}

// wantsRefillLocked reports whether it pays to bring s more from the inbox.
func (s *Subscription) wantsRefillLocked() bool {
	n, bytes := s.countedLocked()
	messages, most := s.part()
	return n <= messages/2 && bytes <= most/2
}

// setReturned notes that Subscribe has returned s, or is about to: the inbox hands out
// nothing before. Messages in the channel of a subscription that the application
// never got would count as acknowledged.
func (s *Subscription) setReturned() {
	if in := s.up.inbox; in != nil && s.markReturned() {
		in.subscriptionsArrived(s)
	}
}

// filtersOf returns the filters of s by which it got it.
func (s *Subscription) filtersOf(it *inboxItem) (names []string) {
	if len(s.filters) == 0 {
		return []string{""} // the catch-all
	}
	for _, name := range it.names {
		if s.hasFilter(name) {
			names = append(names, name)
		}
	}
	return names
}

// tally returns how many messages s had so far, and whether it is finished with all
// of them, so that their acknowledgements stand before what is sent next. The messages
// are counted before the ledger is asked: one that comes in between is still owed then,
// whereas counted after it would pass for acknowledged.
func (s *Subscription) tally() (arrived uint64, quiet bool) {
	s.mu.Lock()
	arrived = s.delivered.Load() + s.dropped.Load()
	waiting := s.box.len() + s.inDelivery
	s.mu.Unlock()
	owes := s.up.ledger.hasUnfinished(&s.owner)
	s.up.ledger.payAcks()
	return arrived, !owes && waiting == 0
}
