package mqtt

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
)

// session has the state that outlives a link: the links of a Conn work on it one after
// the other. It knows neither the Conn nor the link.
type session struct {
	*reporter
	cfg    *config
	out    *outbound
	ledger *ledger
	routes *routes
	inbox  *inbox // nil without one
	seed   maphash.Seed
	up     *upstream // the part that the subscriptions know
	timers timers    // stopped when the Conn begins to close
	stats  connStats
	topics atomic.Pointer[topicTable] // of the last link, while there is none
	hooks  packetHooks

	draining     atomic.Bool       // messages that arrive are ignored, so that the server keeps them
	faultsToDrop map[faultKey]bool // faulty messages to acknowledge and drop; owned by the reader while a link is up, else by the supervisor

	unpauseReader chan struct{}   // closed when the reader must not wait for a subscription any more
	aborted       context.Context // ended by Abort: no DISCONNECT
	done          chan struct{}   // closed when the Conn has ended
}

// later runs f after d, unless the Conn begins to close before.
func (s *session) later(d time.Duration, f func()) { s.timers.after(d, f) }

// hasEnded reports whether the Conn has ended.
func (s *session) hasEnded() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// hookHandshake calls the packet hook with a packet that begins or ends a link.
func (s *session) hookHandshake(sent bool, t codec.Type, size int, link uint32) {
	if hook := s.hooks.hook; hook != nil {
		s.inform(packetHook, func() { hook(PacketInfo{Sent: sent, Type: t, Size: size, Link: link}) })
	}
}

// topicsOf returns the topic table for a link: that of the link before when the server
// has kept the session, since copies of one message may come on both.
func (s *session) topicsOf(resumed bool) *topicTable {
	if t := s.topics.Swap(nil); t != nil && resumed {
		return t
	}
	return &topicTable{seed: s.seed}
}

// unmatched counts and reports a message without a subscription.
func (s *session) unmatched(topic string) {
	n := s.stats.unmatched.Add(1)
	s.emit(MessageUnmatched{Topic: topic, Count: 1, Total: n})
}

// dropOversize counts and reports a message above one of our limits.
func (s *session) dropOversize(topic string, size int, err error) {
	n := s.stats.oversize.Add(1)
	s.emit(MessageDropped{Topic: topic, Size: size, Total: n, Err: err})
}

// tellSubscribed reports the results of SUBSCRIBEs: settled are the subscriptions whose
// filters all have one, lost are filters that were granted before.
func (s *session) tellSubscribed(settled []*Subscription, lost []lostRoute) {
	for _, l := range lost {
		s.events.emit(SubscriptionLost{Filter: l.filter, Err: l.err})
		if l.end {
			s.lose(l.sub, s.routes.refusals(l.sub))
		}
	}
	for _, sub := range settled {
		if err := s.routes.subscribeError(sub); err != nil {
			s.lose(sub, err)
			continue
		}
		s.routes.markReady(sub)
	}
}

// evict ends a subscription whose application does not take its messages.
func (s *session) evict(sub *Subscription) {
	s.emit(SlowConsumer{Filter: sub.name(), Pending: sub.Stats().Pending, Dropped: sub.dropped.Load(), Evicted: true})
	s.lose(sub, ErrSlowConsumer)
}

// drop ends sub with err because the application does not want it any more, and
// unsubscribes its filters.
func (s *session) drop(sub *Subscription, err error) {
	s.routes.remove(sub)
	s.retire(sub, err, leaveAcked)
}

// lose ends sub with err for another reason, and unsubscribes its filters. Its messages in
// the inbox stay there.
func (s *session) lose(sub *Subscription, err error) {
	s.routes.remove(sub)
	s.retire(sub, err, leaveInbox)
}

// retire ends sub, which is out of the routes, and lets its Subscribe return. Messages that
// the application has and does not acknowledge within the time of ackGrace are then
// acknowledged for it, since they hold up every acknowledgement behind them; but not at
// the end of the Conn, nor with an inbox, where they hold up none. retire reports whether
// this call ended sub.
func (s *session) retire(sub *Subscription, err error, leave leaving) bool {
	if !sub.end(err, leave) {
		return false
	}
	s.routes.markReady(sub)
	if n := sub.dropped.Load(); sub.placeholder && n > 0 && leave != leaveServer {
		s.emit(MessageDropped{Topic: sub.name(), Err: err, Total: n}) // a placeholder has no consumer that could notice
	}
	if leave == leaveServer || s.inbox != nil || !s.ledger.hasUnfinished(&sub.owner) {
		return true
	}
	s.later(s.cfg.ackGrace, func() {
		if n := s.ledger.abandon(&sub.owner); n > 0 {
			s.emit(MessageDropped{Topic: sub.name(), Err: ErrStale, Total: uint64(n)})
			s.ledger.payAcks()
		}
	})
	return true
}

// unsubscribe ends sub at once, unsubscribes its filters and waits for the answer.
func (s *session) unsubscribe(ctx context.Context, sub *Subscription) error {
	p := s.routes.remove(sub)
	s.retire(sub, ErrUnsubscribed, leaveAcked)
	return p.wait(ctx)
}

// drain ends sub after the messages that the server has for it, see [Subscription.Drain].
func (s *session) drain(ctx context.Context, sub *Subscription) error {
	if ended, _ := sub.ending(); ended {
		return nil
	}
	refused, err := s.drainRounds(ctx, sub)
	if err == nil {
		err = refused
	} else if name := sub.busy(); name != "" {
		err = &CallbackError{Function: name, Err: err}
	}
	if ended, _ := sub.ending(); err == nil && !ended {
		sub.drainDone.Store(true)
	}
	s.routes.endDrain(sub)
	if err != nil && sub.isChannel() {
		sub.withdraw() // so that messages in a pump count as not handed over
	}
	before := sub.dropped.Load()
	if !s.retire(sub, ErrUnsubscribed, leaveAcked) && err == nil && !sub.drainDone.Load() {
		return sub.Err()
	}
	if n := sub.dropped.Load() - before; n > 0 && err != nil {
		return fmt.Errorf("mqtt: drain of %q: %d messages were not handed over and are acknowledged: %w", sub.name(), n, err)
	}
	return err
}

// drainRounds unsubscribes and waits until all messages are handed over, in rounds. The
// last round is one in which no message arrived, after all before were acknowledged. At
// QoS 2 a second such round follows, since the server may send the next message only when
// PUBCOMP answers the PUBREL that came in the first. drainRounds returns the server's
// refusal to unsubscribe, and the cause of ctx when that ended first.
func (s *session) drainRounds(ctx context.Context, sub *Subscription) (refused, err error) {
	last := 1
	if slices.ContainsFunc(sub.filters, func(f Filter) bool { return f.QoS == 2 }) {
		last = 2
	}
	for empty := 0; empty < last && refused == nil; {
		arrived, quiet := sub.tally()
		refused, err = s.routes.askDrain(ctx, sub)
		if err != nil || !sub.awaitQuiet(ctx) {
			return refused, context.Cause(ctx)
		}
		if ended, _ := sub.ending(); ended || !s.routes.stillRouted(sub) {
			return refused, nil
		}
		if now, _ := sub.tally(); quiet && now == arrived {
			empty++
		} else {
			empty = 0
		}
	}
	return refused, nil
}

// ackedTooLate reports whether the application acknowledged a message so late that the
// Conn, which is ending, cannot send the acknowledgement any more.
func (s *session) ackedTooLate(gen generation, id uint16) bool {
	if s.inbox != nil {
		return false // the inbox notes it, with or without a link
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

// endBacklog gives up the messages that no Subscribe has claimed in the time of
// [WithBacklogGrace] that began with link.
func (s *session) endBacklog(link uint32) {
	if s.draining.Load() {
		return // the server sends them again
	}
	sub, over := s.routes.takeBacklog(link)
	if sub != nil {
		rest, _ := sub.shut(nil, leaveAcked)
		s.unclaimed(rest)
	}
	if over && s.inbox != nil {
		s.inbox.countUnclaimedAnew()
	}
}

// unclaimed counts messages that no Subscribe claimed, reports them by topic, and
// acknowledges them.
func (s *session) unclaimed(msgs []Message) {
	if len(msgs) == 0 {
		return
	}
	total := s.stats.unmatched.Add(uint64(len(msgs)))
	counts := map[string]int{}
	var topics []string
	for i := range msgs {
		topic := msgs[i].Topic
		if counts[topic]++; counts[topic] == 1 {
			topics = append(topics, topic)
		}
	}
	for _, topic := range topics[:min(len(topics), maxReportedTopics)] {
		s.emit(MessageUnmatched{Topic: topic, Count: counts[topic], Total: total})
	}
	s.up.finished(msgs...)
}

// maxReportedTopics is how many topics events name when a backlog is given up. The channel
// keeps room for other events.
const maxReportedTopics = 16
