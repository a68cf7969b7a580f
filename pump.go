package mqtt

import (
	"fmt"
	"log/slog"
)

// This file hands over: a pump, or the iterator, takes messages out of the mailbox, has
// them in delivery until the consumer has them, and puts them back when it is interrupted.

// sink is where the pumps of a subscription hand messages over.
type sink interface {
	// send hands m over, and waits until it has; false: it was interrupted.
	send(m Message, interrupt <-chan struct{}) bool
	// close tells the consumer that no more comes.
	close()
}

// channelSink is the channel of C.
type channelSink chan Message

func (c channelSink) send(m Message, interrupt <-chan struct{}) bool {
	select {
	case c <- m:
		return true
	case <-interrupt:
		return false
	}
}

func (c channelSink) close() { close(c) }

// handlerSink is the function of Handle.
type handlerSink func(Message)

func (f handlerSink) send(m Message, _ <-chan struct{}) bool {
	f(m)
	return true
}

func (handlerSink) close() {}

// startPumpsLocked starts what hands over pending messages, if it does not run. A pump
// is owned by the subscription; it ends when nothing is pending or the subscription is
// paused or ended.
func (s *Subscription) startPumpsLocked() {
	if s.sink == nil || s.paused || s.ended {
		return
	}
	limit := 1
	if s.form == formHandler {
		limit = s.opts.workers
	}
	for s.pumps < limit && s.pumps < s.box.len() {
		s.pumps++
		s.goPump(nil)
	}
}

// goPump starts a pump, which begins with again, a message in delivery. The Conn waits for
// it unless it runs a handler, which may itself wait for the end of the Conn; for one
// that decodes it does not wait long.
func (s *Subscription) goPump(again []Message) {
	if s.form == formHandler {
		go s.pump(again)
		return
	}
	s.up.pumps.Go(func() { s.pump(again) })
}

// pump hands over pending messages in order until there is none, again first, which
// the application's code has had once. The last pump of an ended subscription closes
// its channel.
func (s *Subscription) pump(again []Message) {
	var batch [pumpBatch]Message
	msgs, returned := again, false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			panic(p)
		}
		s.pumpExited(msgs[0], len(again) > 0)
	}()
	s.handOverAgain(again)
	again = nil
	for {
		s.mu.Lock()
		if s.ended || s.paused || s.box.len() == 0 {
			s.pumps--
			if s.ended && s.pumps == 0 {
				s.sink.close()
			}
			event := s.slowEventLocked()
			s.mu.Unlock()
			if event != nil {
				s.up.events.emit(event)
			}
			returned = true
			return
		}
		msgs = s.takeBatchLocked(batch[:0])
		interrupt := s.interrupt
		s.mu.Unlock()
		s.handOver(msgs, interrupt)
		clear(msgs)
	}
}

// pumpBatch is how many messages a pump takes at a time for a channel.
const pumpBatch = 32

// pumpBatchBytes is the size of the payloads at which such a batch ends.
const pumpBatchBytes = 64 << 10

// handOverAgain hands over msgs, which are in delivery and were tried before, unless the
// subscription has ended or is paused.
func (s *Subscription) handOverAgain(msgs []Message) {
	if len(msgs) == 0 {
		return
	}
	s.mu.Lock()
	stopped, interrupt := s.ended || s.paused, s.interrupt
	s.mu.Unlock()
	if stopped {
		s.requeue(msgs...)
		return
	}
	s.handOver(msgs, interrupt)
}

// takeBatchLocked takes as many messages as go over together: several for a channel,
// one for a body that may take its time.
func (s *Subscription) takeBatchLocked(batch []Message) []Message {
	most, size := 1, 0
	if s.form == formChannel {
		most = pumpBatch
	}
	for len(batch) < most && s.box.len() > 0 && size < pumpBatchBytes {
		batch = append(batch, s.box.pop())
		size += len(batch[len(batch)-1].Payload)
	}
	s.beginDeliveryLocked(len(batch))
	return batch
}

// beginDeliveryLocked notes that the caller delivers n messages.
func (s *Subscription) beginDeliveryLocked(n int) {
	s.inDelivery += n
	s.progress++
	s.madeRoomLocked()
}

// handOver gives msgs to the consumer in order, and puts back those that an interrupt
// left. Messages in the channel are acknowledged before waiting for room in it.
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
		if !s.sink.send(msgs[i], interrupt) {
			s.requeue(msgs[i:]...)
			return
		}
	}
	s.handedOver(msgs[given:]...)
}

// handedOver notes that the consumer has msgs.
func (s *Subscription) handedOver(msgs ...Message) {
	if len(msgs) == 0 {
		return
	}
	switch {
	case !s.opts.manual:
		s.up.finished(msgs...) // before Drain, which waits for deliveries, goes on
	case s.up.inbox != nil:
		s.up.ledger.inbox.handedOver(msgs)
	}
	s.delivered.Add(uint64(len(msgs))) // before Drain, which counts them, goes on
	s.mu.Lock()
	s.endDeliveryLocked(len(msgs))
	s.progress++
	s.madeRoomLocked()
	event := s.slowEventLocked()
	s.mu.Unlock()
	if event != nil {
		s.up.events.emit(event)
	}
}

// endDeliveryLocked notes that the caller delivers n messages no longer.
func (s *Subscription) endDeliveryLocked(n int) {
	if s.inDelivery -= n; s.inDelivery == 0 {
		s.idle.Broadcast() // withdraw may wait
		if s.sending {
			s.sending = false
			close(s.sent)
		}
		if in := s.up.inbox; in != nil && s.ended {
			in.requestReconcile()
		}
	}
}

// requeue puts msgs, which were not handed over, in front of the mailbox.
func (s *Subscription) requeue(msgs ...Message) {
	s.restore(len(msgs), msgs...)
}

// restore puts msgs in front of the mailbox, or where they belong by now; n of
// them were in delivery here.
func (s *Subscription) restore(n int, msgs ...Message) {
	s.mu.Lock()
	s.endDeliveryLocked(n)
	var rest []Message
	for i := len(msgs) - 1; i >= 0; i-- {
		switch m := msgs[i]; {
		case s.returnsLocked(&m):
			s.up.inbox.giveBack(s, []Message{m})
		case s.forwardsToLocked(&m) != nil:
			to := s.forwardsToLocked(&m)
			s.moveToLocked(&m, to)
			to.restore(0, m)
		case s.ended:
			rest = append(rest, m)
		default:
			s.box.unpop(m)
			s.startPumpsLocked()
			s.wakeIteratorsLocked()
		}
	}
	leave := s.leave
	s.mu.Unlock()
	s.discard(rest, leave)
}

// returnsLocked reports whether m goes back to the inbox, since s hands over nothing
// any more.
func (s *Subscription) returnsLocked(m *Message) bool {
	return s.up.inbox != nil && m.QoS > 0 && (len(s.forwards) > 0 || s.ended && s.leave == leaveInbox)
}

// discard acknowledges messages that go to no consumer any more, unless the server keeps them.
func (s *Subscription) discard(msgs []Message, leave leaving) {
	if leave == leaveServer || len(msgs) == 0 {
		return
	}
	s.dropped.Add(uint64(len(msgs)))
	s.up.finished(msgs...)
}

// pumpExited takes over from a pump whose goroutine the application's code ended with m
// in delivery. A new pump goes on: with m once more, since its work was not done, but not
// a second time, which would go on for ever. Under WithManualAck the application has m.
func (s *Subscription) pumpExited(m Message, before bool) {
	var again []Message
	switch {
	case s.opts.manual:
		s.handedOver(m)
	case !before:
		again = []Message{m}
	default:
		s.giveUpInDelivery(m)
	}
	s.goPump(again)
	s.up.record(slog.LevelWarn, "a function ended its goroutine", "client", *s.up.clientID.Load(), "function", s.function(), "topic", m.Topic, "again", len(again) > 0)
}

// giveUpInDelivery acknowledges and counts m, which is in delivery, unless the server keeps it.
func (s *Subscription) giveUpInDelivery(m Message) {
	if ended, _ := s.ending(); ended {
		s.requeue(m) // it finds its place
		return
	}
	s.discard([]Message{m}, leaveAcked)
	s.mu.Lock()
	s.endDeliveryLocked(1)
	s.progress++
	s.madeRoomLocked()
	event := s.slowEventLocked()
	s.mu.Unlock()
	if event != nil {
		s.up.events.emit(event)
	}
	s.up.emit(MessageDropped{Topic: m.Topic, Size: len(m.Payload), Err: ErrHandlerExited, Total: s.dropped.Load()})
}

// function names the code of the application that has the messages.
func (s *Subscription) function() string {
	of := map[consumerForm]string{formTyped: "codec", formHandler: "handler", formIterator: "body of All"}[s.form]
	return fmt.Sprintf("%s of %q", of, s.name())
}

// busy returns the name of the code of the application that has messages, empty
// when there is none.
func (s *Subscription) busy() string {
	s.mu.Lock()
	idle := s.inDelivery == 0 || s.form == formChannel || s.form == formTyped && !s.decoding.Load()
	s.mu.Unlock()
	if idle {
		return ""
	}
	return s.function()
}
