package mqtt

import (
	"fmt"
	"log/slog"
)

// This file goes on where a handler or a codec ended the goroutine of its pump.

// handOverAgain hands over msgs, which are in hand and were tried before, unless the
// subscription has ended or is paused.
func (s *Subscription) handOverAgain(msgs []Message) {
	if len(msgs) == 0 {
		return
	}
	s.mu.Lock()
	stopped, interrupt := s.ended || s.paused, s.interrupt
	s.mu.Unlock()
	if stopped {
		s.putBack(msgs...)
		return
	}
	s.handOver(msgs, interrupt)
}

// pumpExited takes over from a pump whose goroutine the application's code ended with m
// in hand. A new pump goes on: with m once more, since its work was not done, but not
// a second time, which would go on for ever. Under WithManualAck the application has m.
func (s *Subscription) pumpExited(m Message, before bool) {
	var again []Message
	switch {
	case s.opts.manual:
		s.handedOver(m)
	case !before:
		again = []Message{m}
	default:
		s.giveUpInHand(m)
	}
	s.goPump(again)
	s.up.record(slog.LevelWarn, "a function ended its goroutine", "client", *s.up.clientID.Load(), "function", s.function(), "topic", m.Topic, "again", len(again) > 0)
}

// giveUpInHand acknowledges and counts m, which is in hand, unless the server keeps it.
func (s *Subscription) giveUpInHand(m Message) {
	if ended, _ := s.ending(); ended {
		s.putBack(m) // it finds its place
		return
	}
	s.discard([]Message{m}, leaveAcked)
	s.mu.Lock()
	s.released(1)
	s.moves++
	s.madeRoom()
	event := s.spell()
	s.mu.Unlock()
	if event != nil {
		s.up.events.emit(event)
	}
	s.up.emit(MessageDropped{Topic: m.Topic, Size: len(m.Payload), Err: ErrHandlerExited, Total: s.dropped.Load()})
}

// function names the code of the application that has the messages in hand.
func (s *Subscription) function() string {
	of := map[consumerForm]string{formTyped: "codec", formHandler: "handler", formIterator: "body of All"}[s.form]
	return fmt.Sprintf("%s of %q", of, s.name())
}

// busy returns the name of the code of the application that has messages in hand, empty
// when there is none.
func (s *Subscription) busy() string {
	s.mu.Lock()
	idle := s.hands == 0 || s.form == formChannel || s.form == formTyped && !s.decoding.Load()
	s.mu.Unlock()
	if idle {
		return ""
	}
	return s.function()
}
