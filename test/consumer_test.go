package mqtt_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// Nothing is acked before the form is chosen; a message of a channel is acked once
// it is in the channel.
func TestChannelAcksMessagesInTheChannel(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1, mqtt.WithBuffer(1))
		s.message(0x32, 1, "t", "1")
		s.message(0x32, 2, "t", "2")
		s.ExpectNothing(time.Minute)
		ch := sub.C()
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectNothing(time.Minute)
		expect(t, ch, "1")
		s.ExpectBytes(rawAck(0x40, 2))
		opted := s.subscribed("o", 1, mqtt.WithImmediateDelivery())
		s.message(0x32, 3, "o", "3")
		s.ExpectBytes(rawAck(0x40, 3))
		expect(t, opted.C(), "3")
	})
}

// A handler's message is acked after the body.
func TestHandlerAcksAfterTheBody(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1)
		step := make(chan struct{})
		sub.Handle(func(mqtt.Message) { <-step })
		s.message(0x32, 1, "t", "1")
		s.message(0x32, 2, "t", "2")
		s.ExpectNothing(time.Minute)
		for i := range uint16(2) {
			step <- struct{}{}
			s.ExpectBytes(rawAck(0x40, i+1))
		}
	})
}

// Break acks that message and ends the iteration only; a panic leaves the message
// pending.
func TestIterator(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1)
		for i := range uint16(4) {
			s.message(0x32, i+1, "t", fmt.Sprint(i+1))
		}
		for m := range sub.All() {
			s.ExpectNothing(time.Second) // not before the body ran
			if string(m.Payload) != "1" {
				t.Errorf("got %q", m.Payload)
			}
			break
		}
		s.ExpectBytes(rawAck(0x40, 1))
		func() {
			defer func() { recover() }()
			for range sub.All() {
				panic("in the body")
			}
		}()
		s.ExpectNothing(time.Second)
		want := 2
		for m := range sub.All() {
			if string(m.Payload) != fmt.Sprint(want) {
				t.Errorf("got %q, want %d", m.Payload, want)
			}
			if want++; want == 5 {
				time.AfterFunc(time.Second, func() { sub.Unsubscribe(t.Context()) }) // after the last acknowledgement
			}
		}
		for i := range uint16(3) {
			s.ExpectBytes(rawAck(0x40, i+2))
		}
		if want != 5 || !errors.Is(sub.Err(), mqtt.ErrUnsubscribed) {
			t.Errorf("%d, %v", want, sub.Err())
		}
	})
}

// Another form later is ErrConsumerBound, and its channel closed and empty.
func TestConsumerBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		handled := s.subscribed("h", 1)
		var n atomic.Int32
		if err := handled.Handle(func(mqtt.Message) { n.Add(1) }); err != nil {
			t.Fatal(err)
		}
		if err := handled.Handle(func(mqtt.Message) {}); !errors.Is(err, mqtt.ErrConsumerBound) {
			t.Errorf("Handle: %v", err)
		}
		if err := handled.Bind(); !errors.Is(err, mqtt.ErrConsumerBound) {
			t.Errorf("Bind: %v", err)
		}
		c, again := handled.C(), handled.C()
		if len(drainClosed(t, c)) != 0 || c != again {
			t.Error("C of a handled subscription")
		}
		for range handled.All() {
			t.Error("All of a handled subscription")
		}
		typed := mqtt.AsTyped(handled, mqtt.UTF8())
		if len(drainClosed(t, typed.C())) != 0 {
			t.Error("typed C of a handled subscription")
		}
		s.message(0x30, 0, "h", "x")
		if n.Load() != 1 {
			t.Error("the handler got nothing")
		}
		channel := s.subscribed("c", 1)
		channel.C()
		if err := channel.Handle(func(mqtt.Message) {}); !errors.Is(err, mqtt.ErrConsumerBound) {
			t.Errorf("Handle: %v", err)
		}
		iterated := s.subscribed("i", 1)
		if err := iterated.Bind(); err != nil {
			t.Error(err)
		}
		drainClosed(t, iterated.C())
	})
}

// A second form looks like an end: a closed channel, an empty loop. Err says that it is none,
// so that a service does not end with success.
func TestErrTellsOfASecondForm(t *testing.T) {
	seconds := map[string]func(s *mqtt.Subscription){
		"C":       func(s *mqtt.Subscription) { s.C() },
		"typed C": func(s *mqtt.Subscription) { mqtt.AsTyped(s, mqtt.UTF8()).C() },
		"All":     func(s *mqtt.Subscription) { s.All()(func(mqtt.Message) bool { return true }) },
	}
	for name, second := range seconds {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5)
			sub := s.subscribed("h", 1)
			if err := sub.Handle(func(mqtt.Message) {}); err != nil {
				t.Fatal(err)
			}
			if err := sub.Err(); err != nil {
				t.Errorf("before: %v", err)
			}
			second(sub)
			if err := sub.Err(); !errors.Is(err, mqtt.ErrConsumerBound) {
				t.Errorf("%s of a handled subscription: Err is %v", name, err)
			}
			s.conn.Abort()
			if err := sub.Err(); !errors.Is(err, mqtt.ErrClosed) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// WithWorkers: bodies run at once, acks leave in order.
func TestWorkers(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1, mqtt.WithWorkers(3))
		var running, most atomic.Int32
		sub.Handle(func(m mqtt.Message) {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Duration('9'-m.Payload[0]) * time.Second)
			running.Add(-1)
		})
		for i := range uint16(6) {
			s.message(0x32, i+1, "t", fmt.Sprint(i+1))
		}
		for i := range uint16(6) {
			s.ExpectBytes(rawAck(0x40, i+1))
		}
		if most.Load() != 3 {
			t.Errorf("%d bodies at once", most.Load())
		}
	})
}
