package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

type reading struct {
	Celsius float64
}

func TestTypedJSON(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		sub, err := mqtt.SubscribeAs(t.Context(), conn, "t", mqtt.JSON[reading]())
		if err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "t", 1, `{"Celsius":21.5}`, `{"Celsius":"warm"}`, `{"Celsius":-1}`)
		if r := take(t, sub.C()); r.Err != nil || r.Value.Celsius != 21.5 {
			t.Errorf("%+v", r)
		}
		if r := take(t, sub.C()); r.Err == nil || r.Value != (reading{}) || string(r.Msg.Payload) != `{"Celsius":"warm"}` {
			t.Errorf("a bad payload: %+v", r)
		}
		if r := take(t, sub.C()); r.Err != nil || r.Value.Celsius != -1 {
			t.Errorf("%+v", r)
		}
		if c, again := sub.C(), sub.C(); c != again {
			t.Error("another channel")
		}
		eventually(t, "acked, the bad one too", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
		succeeded(t, mqtt.PublishAs(t.Context(), conn, mqtt.Message{Topic: "t", QoS: 1}, mqtt.JSON[reading](), reading{3}))
		if r := take(t, sub.C()); r.Value.Celsius != 3 {
			t.Errorf("%+v", r)
		}
		f := mqtt.PublishAs(t.Context(), conn, mqtt.Message{Topic: "t"}, mqtt.JSON[chan int](), nil)
		if err := f.Err(); err == nil || err == mqtt.ErrPending {
			t.Errorf("a value that JSON does not have: %v", err)
		}
		if err := sub.Unsubscribe(t.Context()); err != nil {
			t.Error(err)
		}
		drainClosed(t, sub.C())
	})
}

func TestTypedTextAndManualAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		sub := mqtt.AsTyped(s.subscribed("t", 1, mqtt.WithManualAck()), mqtt.UTF8())
		s.message(0x32, 1, "t", "grüß")
		s.message(0x32, 2, "t", "\xff")
		a, b := take(t, sub.C()), take(t, sub.C())
		if a.Value != "grüß" || a.Err != nil || b.Err == nil || b.Value != "" {
			t.Errorf("%+v %+v", a, b)
		}
		b.Ack()
		a.Ack()
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectBytes(rawAck(0x40, 2))
	})
}

// A codec of one's own, in the forms of an iterator and a handler.
func TestTypedOwnCodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{})
		number := mqtt.CodecFunc[int]{
			DecodeFunc: func(m mqtt.Message) (int, error) { return strconv.Atoi(string(m.Payload)) },
			EncodeFunc: func(n int) ([]byte, error) {
				if n < 0 {
					return nil, errors.New("negative")
				}
				return strconv.AppendInt(nil, int64(n), 10), nil
			},
		}
		sub, err := mqtt.SubscribeAs(t.Context(), conn, "t", number)
		if err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "t", 1, "1", "x", "3")
		var sum, bad int
		for r := range sub.All() {
			if sum += r.Value; r.Err != nil {
				bad++
			}
			if r.Value == 3 {
				break
			}
		}
		if sum != 4 || bad != 1 {
			t.Errorf("sum %d, bad %d", sum, bad)
		}
		handled, err := mqtt.SubscribeAs(t.Context(), conn, "h", number)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan int, 1)
		if err := handled.Handle(func(r mqtt.Typed[int]) { got <- r.Value }); err != nil {
			t.Fatal(err)
		}
		succeeded(t, mqtt.PublishAs(t.Context(), conn, mqtt.Message{Topic: "h", QoS: 1}, number, 7))
		if n := take(t, got); n != 7 {
			t.Errorf("got %d", n)
		}
		if err := mqtt.PublishAs(t.Context(), conn, mqtt.Message{Topic: "h"}, number, -1).Err(); err == nil || err == mqtt.ErrPending {
			t.Errorf("a value that cannot be encoded: %v", err)
		}
		// Delivery by option starts into the channel of values.
		opted, err := mqtt.SubscribeAs(t.Context(), conn, "o", number, mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "o", 1, "9")
		eventually(t, "acked", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
		if r := take(t, opted.C()); r.Value != 9 {
			t.Errorf("%+v", r)
		}
	})
}

// What a typed subscription that is detached has in hand, since its channel is
// full, comes first to the one that takes over.
func TestTypedDetachedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311, mqtt.WithSession(time.Hour))
		for round := range 100 {
			filter := fmt.Sprint("t", round)
			ctx, cancel := context.WithCancel(t.Context())
			old, err := mqtt.SubscribeAs(ctx, s.conn, filter, mqtt.UTF8(), mqtt.WithoutWaiting(), mqtt.WithBuffer(0), mqtt.WithImmediateDelivery())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				s.message(0x30, 0, filter, strconv.Itoa(i))
			}
			cancel()
			next, err := s.conn.Subscribe(t.Context(), filter, mqtt.WithoutWaiting(), mqtt.WithImmediateDelivery())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, next.C(), "0", "1", "2", "3", "4")
			<-old.Done()
		}
	})
}
