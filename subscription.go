package mqtt

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"
)

// Subscription is one or several filters and the messages that match them. It
// outlives links. Delivery starts when its form is chosen, by the first C, All
// or Handle; until then messages are pending and unacknowledged.
//
// It ends by Unsubscribe, the end of its context, the end of the Conn or a
// refusal of the server; then its channel is closed and Err says why.
type Subscription struct {
	owner
	grant    // by the server
	consumer // in the application

	up   *upstream
	no   uint64 // in the order of creation
	opts subOptions
	ctx  context.Context // given to Subscribe; nil for none

	ready chan struct{} // closed when every filter has its first result
	done  chan struct{} // closed when it has ended
}

func newSubscription(up *upstream, filters []Filter, opts subOptions) *Subscription {
	s := &Subscription{
		grant: newGrant(filters),
		up:    up, no: up.made.Add(1), opts: opts,
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	s.exchange = s
	s.setFilters(filters)
	s.consumer.init()
	if opts.start == formChannel {
		s.C()
	}
	return s
}

// Filters returns the filters in the order given.
func (s *Subscription) Filters() []Filter { return append([]Filter(nil), s.filters...) }

// Ready returns a channel that is closed when the server has answered for every
// filter, or the subscription has ended.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Done returns a channel that is closed when the subscription has ended. Messages
// may still be in its channel.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err returns nil while the subscription lives, then why it ended:
// [ErrUnsubscribed], [ErrSlowConsumer], a *[SubscribeError], the error of the
// Conn, or an error that wraps the cause of its context. While it lives it returns
// [ErrConsumerBound] when C or All was called though another form was chosen before:
// the channel was closed and the loop empty, as at an end.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.secondForm {
		return ErrConsumerBound
	}
	return s.err
}

// Results returns what the server said of each filter.
func (s *Subscription) Results() []SubscribeResult {
	s.up.grants.Lock()
	defer s.up.grants.Unlock()
	return append([]SubscribeResult(nil), s.results...)
}

// Granted returns the QoS granted for the first filter; it is what was asked
// for until the server has answered.
func (s *Subscription) Granted() QoS {
	s.up.grants.Lock()
	defer s.up.grants.Unlock()
	return s.grantedLocked()
}

// SubscriptionStats are figures of one subscription.
type SubscriptionStats struct {
	Pending      int           // messages not handed over yet
	PendingBytes int           // and their size
	Oldest       time.Duration // how long the first of them has waited
	Delivered    uint64        // messages handed over
	Dropped      uint64        // messages given up
}

// Stats returns figures of the subscription.
func (s *Subscription) Stats() SubscriptionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SubscriptionStats{Pending: s.box.len() + s.inDelivery, PendingBytes: s.box.size(), Oldest: s.box.oldest(time.Now()),
		Delivered: s.delivered.Load(), Dropped: s.dropped.Load()}
}

// C returns the channel of messages, the same on every call. It is closed when
// the subscription ends; a reconnect does not close it. When the subscription
// is consumed in another form, the channel is closed and empty, and Err returns
// [ErrConsumerBound].
func (s *Subscription) C() <-chan Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		return s.ch
	}
	if s.form != formNone {
		s.secondForm = true
		s.ch = make(chan Message)
		close(s.ch)
		return s.ch
	}
	ch := make(chan Message, s.opts.buffer)
	s.ch = ch
	s.beginLocked(formChannel, channelSink(ch))
	return ch
}

// Handle calls f for each message, one at a time unless WithWorkers says
// otherwise, and acknowledges the message when f returns. It does not block.
// The end of the Conn does not wait for an f that runs, so that f may close it;
// [Conn.Drain] and [Subscription.Drain] do.
//
// An f that panics ends the process, as in any goroutine. An f that ends its goroutine
// (runtime.Goexit, as t.FailNow and require of tests do) has not finished: it is called
// once more with the message, in a new goroutine and before any later one. When it ends
// that goroutine too the message is acknowledged and counted as dropped, with a
// [MessageDropped] of [ErrHandlerExited]. Under [WithManualAck] it is not called again:
// the message is the application's, unacknowledged.
//
// It returns [ErrConsumerBound] when the subscription is consumed in another form.
func (s *Subscription) Handle(f func(Message)) error {
	if f == nil {
		return invalid("handler", "", "is nil")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.form != formNone {
		return ErrConsumerBound
	}
	s.beginLocked(formHandler, handlerSink(f))
	return nil
}

// beginLocked binds the form and starts to hand over what is pending.
func (s *Subscription) beginLocked(form consumerForm, to sink) {
	s.form, s.sink = form, to
	s.progress++
	if s.ended {
		to.close()
		return
	}
	s.startPumpsLocked()
}

// All returns an iterator over the messages. Each is acknowledged after the body
// ran; break acknowledges it too and ends the loop, not the subscription. After
// a panic or runtime.Goexit in the body the message is pending again. The loop ends when the
// subscription does. When the subscription is consumed in another form the loop
// is empty, and Err returns [ErrConsumerBound]; [Subscription.Bind] tells before.
func (s *Subscription) All() iter.Seq[Message] {
	return func(yield func(Message) bool) {
		if s.Bind() != nil {
			s.noteSecondForm()
			return
		}
		for {
			m, ok := s.next()
			if !ok || !s.yield(yield, m) {
				return
			}
		}
	}
}

// Bind chooses the iterator as the form of the subscription, or returns
// [ErrConsumerBound] when another form was chosen before.
func (s *Subscription) Bind() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.form == formNone {
		s.form = formIterator
		s.progress++
	}
	if s.form != formIterator {
		return ErrConsumerBound
	}
	return nil
}

// next waits for a message; it returns false when the subscription has ended.
func (s *Subscription) next() (Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended && (s.paused || s.box.len() == 0) {
		s.idle.Wait()
	}
	if s.ended {
		return Message{}, false
	}
	m := s.box.pop()
	s.beginDeliveryLocked(1)
	return m, true
}

// yield runs the body for m and acknowledges it, or puts it back when the body panics.
func (s *Subscription) yield(body func(Message) bool, m Message) bool {
	returned := false
	defer func() {
		if !returned {
			s.requeue(m)
		}
	}()
	goOn := body(m)
	returned = true
	s.handedOver(m)
	return goOn
}

// Pause stops handing over messages. They are held as those of a slow consumer
// are; the server does not learn of it.
func (s *Subscription) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.paused && !s.ended {
		s.paused = true
		close(s.interrupt)
	}
}

// Resume goes on after Pause.
func (s *Subscription) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused && !s.ended && !s.halted {
		s.paused = false
		s.interrupt = make(chan struct{})
		s.idle.Broadcast()
		s.startPumpsLocked()
	}
}

// Unsubscribe ends the subscription at once and removes it from the server,
// unless another subscription of the Conn has the same filter. The context
// bounds the wait for the server's answer; without a link there is no wait, and
// UNSUBSCRIBE is sent on the next. It returns nil when the subscription had ended before.
// An UNSUBSCRIBE at which the server cuts the link again and again is given up, see
// [FilterSetAside].
//
// Pending messages are acknowledged and counted as dropped; [Subscription.Drain] hands them
// over first.
func (s *Subscription) Unsubscribe(ctx context.Context) error { return s.up.home.unsubscribe(ctx, s) }

// Drain ends the subscription without losing messages that the server has for it. It
// unsubscribes, hands over pending messages and those that the server still sends, and
// ends. This is how to leave a shared subscription: messages that Unsubscribe would
// acknowledge and drop are handed over, and the group gets the later ones.
//
// The filters are removed from the server as by Unsubscribe. A filter that another
// subscription of the Conn has stays at the server, and brings nothing more to this one. A
// server may go on sending what it had queued, so Drain repeats UNSUBSCRIBE until nothing
// came before its answer. Without a link it waits for the next.
//
// A message is handed over when the channel has it, when the body of a handler or of a
// loop over All has returned, or under [WithManualAck] when it is acknowledged. When all
// are, the subscription ends with [ErrUnsubscribed] and Drain returns nil. While an earlier
// message of another subscription is not acknowledged, a server whose window is full may
// have more that Drain does not see.
//
// When ctx ends first the subscription ends as by Unsubscribe: what was not handed over
// is acknowledged and counted as dropped. The error wraps the context's cause and states
// their number. A subscription that is paused, or that nothing reads, ends this way unless
// that changes before. A handler or loop body that calls Drain waits for itself until ctx ends;
// the error is then a *[CallbackError], and its message counts as handed over when it
// returns. A refusal by the server ends the wait for more and is returned. When the
// subscription ends for another reason meanwhile, Drain returns that, and nil when it
// had ended before. While it lasts a new Subscribe of a filter takes the filter over.
func (s *Subscription) Drain(ctx context.Context) error { return s.up.home.drain(ctx, s) }

// scopeEnded reports whether the context given to Subscribe has ended.
func (s *Subscription) scopeEnded() bool { return s.ctx != nil && s.ctx.Err() != nil }

// inboxKey returns the key of the message gen in the durable inbox.
func (s *Subscription) inboxKey(gen generation) (key uint64, earlier bool) {
	return s.up.ledger.inboxKey(gen)
}

// ack is Ack of the message gen with the identifier id.
func (s *Subscription) ack(gen generation, id uint16) error {
	if !s.opts.manual {
		return ErrAcked
	}
	if ended, leave := s.ending(); ended && leave == leaveServer || s.up.home.hasEnded() {
		return ErrClosed // the server sends it again, if it kept the session
	}
	err := s.up.ledger.done(gen, id, &s.owner)
	if err == nil {
		s.mu.Lock()
		s.progress++
		s.madeRoomLocked()
		s.mu.Unlock()
		s.up.ledger.payAcks()
		if s.up.home.ackedTooLate(gen, id) {
			return ErrClosed
		}
	}
	return err
}

// end ends the subscription with err, and reports whether it was the first to.
func (s *Subscription) end(err error, leave leaving) bool {
	rest, first := s.shut(err, leave)
	s.discard(rest, leave)
	return first
}

// shut ends the subscription as end does, and returns what is pending and was not given
// back to the inbox.
func (s *Subscription) shut(err error, leave leaving) (rest []Message, first bool) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, false
	}
	s.ended, s.leave, s.err = true, leave, err
	stop := s.stop
	if !s.paused {
		close(s.interrupt)
	}
	rest = make([]Message, 0, s.box.len())
	for s.box.len() > 0 {
		rest = append(rest, s.box.pop())
	}
	if in := s.up.inbox; in != nil && leave != leaveServer {
		if leave == leaveInbox {
			rest = in.giveBack(s, rest)
		}
		in.wake() // for what is in its queue
	}
	s.idle.Broadcast()
	s.madeRoomLocked()
	if s.sink != nil && s.pumps == 0 {
		s.sink.close()
	}
	s.mu.Unlock()
	stop()
	close(s.done)
	return rest, true
}

// drained waits until nothing is pending any more, here or in the durable inbox,
// under WithManualAck until everything is acknowledged. It reports false when ctx ended first.
// A subscription that nothing reads has nothing to wait for.
func (s *Subscription) drained(ctx context.Context) bool {
	return s.isUnread() || s.awaitQuiet(ctx)
}

// awaitQuiet waits as drained does, also for a subscription that nothing reads.
func (s *Subscription) awaitQuiet(ctx context.Context) bool {
	s.mu.Lock()
	if s.quiet == nil {
		s.quiet = make(chan struct{})
	}
	quiet := s.quiet
	s.madeRoomLocked()
	s.mu.Unlock()
	select {
	case <-quiet:
		return true
	case <-ctx.Done():
		return false
	}
}

// String names the first filter.
func (s *Subscription) String() string { return fmt.Sprintf("mqtt.Subscription(%q)", s.name()) }

// GoString is String.
func (s *Subscription) GoString() string { return s.String() }

// Format is String, whatever the verb.
func (s *Subscription) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }
