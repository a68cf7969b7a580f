package mqtt

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// session is what the links of a Conn work on, one after the other, and what outlives
// them. It knows neither the Conn nor the link.
type session struct {
	*reporter
	cfg    *config
	out    *outbound
	ledger *ledger
	routes *routes
	inbox  *inbox // nil without one
	seed   maphash.Seed
	pumps  sync.WaitGroup // goroutines that hand messages over, those in user code left out
	subs   atomic.Uint64  // subscriptions made
	timers timers         // stopped when the Conn begins to close
	stats  connStats
	hooks  hookMarks

	draining atomic.Bool       // what arrives is the server's to keep
	passed   map[faultKey]bool // faulty messages to pass over; the reader's while a link is up, else the supervisor's

	lift    chan struct{}   // closed when nothing may hold the reader back any more
	aborted context.Context // ended by Abort: no DISCONNECT
	done    chan struct{}   // closed when the Conn has ended
}

// later runs f after d, unless the Conn begins to close before.
func (s *session) later(d time.Duration, f func()) { s.timers.after(d, f) }

// finished notes that the application is done with messages.
func (s *session) finished(msgs ...Message) {
	if s.ledger.doneAll(msgs) {
		s.ledger.settle()
	}
}

// unmatched counts a message without a subscription.
func (s *session) unmatched(topic string) {
	n := s.stats.unmatched.Add(1)
	s.emit(MessageUnmatched{Topic: topic, Count: 1, Total: n})
}

// tooLarge counts a message above our limit on 3.x.
func (s *session) tooLarge(topic string, size int) {
	n := s.stats.oversize.Add(1)
	s.emit(MessageDropped{Topic: topic, Size: size, Total: n, Err: &PacketTooLargeError{Size: size, Max: s.cfg.inboundLimit}})
}

// evict ends a subscription that does not take its messages.
func (s *session) evict(sub *Subscription) {
	s.emit(SlowConsumer{Filter: sub.name(), Pending: sub.Stats().Pending, Dropped: sub.dropped.Load(), Evicted: true})
	s.lose(sub, ErrSlowConsumer)
}

// drop ends sub with err because the application wants it no more, and removes it
// from the server.
func (s *session) drop(sub *Subscription, err error) {
	s.routes.remove(sub)
	s.retire(sub, err, leaveAcked)
}

// lose ends sub with err for another reason, and removes it from the server. What is
// in the inbox for it stays there.
func (s *session) lose(sub *Subscription, err error) {
	s.routes.remove(sub)
	s.retire(sub, err, leaveInbox)
}

// retire ends sub, which is out of the routes, and lets its Subscribe return. What
// the application was given and does not acknowledge within a grace is
// acknowledged for it, since it would hold up everything behind it; but not at the
// end of the Conn, nor with an inbox, where it holds up nothing. It reports whether sub
// had not ended before.
func (s *session) retire(sub *Subscription, err error, leave leaving) bool {
	if !sub.end(err, leave) {
		return false
	}
	s.routes.markReady(sub)
	if n := sub.dropped.Load(); sub.holder && n > 0 && leave != leaveServer {
		s.emit(MessageDropped{Topic: sub.name(), Err: err, Total: n}) // nobody else can tell
	}
	if leave == leaveServer || s.inbox != nil || !s.ledger.owes(&sub.owner) {
		return true
	}
	s.later(s.cfg.ackGrace, func() {
		if n := s.ledger.abandon(&sub.owner); n > 0 {
			s.emit(MessageDropped{Topic: sub.name(), Err: ErrStale, Total: uint64(n)})
			s.ledger.settle()
		}
	})
	return true
}

// hasEnded reports whether the Conn has.
func (s *session) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// ackedTooLate reports whether the acknowledgement of m, which the application
// has just given, cannot be sent any more because the Conn is ending.
func (s *session) ackedTooLate(gen uint32, id uint16) bool {
	if s.inbox != nil {
		return false // the inbox has it, whatever becomes of the link
	}
	s.out.mu.Lock()
	l, ending := s.out.link, s.out.closed != nil
	said := l != nil && l.closing
	s.out.mu.Unlock()
	if !ending {
		return false
	}
	return l == nil || l.killed() || said && s.ledger.unpaid(gen, id)
}
