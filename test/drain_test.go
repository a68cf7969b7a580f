package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// draining begins Drain of sub, and returns its result to come.
func draining(t *testing.T, sub *mqtt.Subscription) <-chan error {
	return drainingFor(t, sub, time.Hour)
}

func drainingFor(t *testing.T, sub *mqtt.Subscription, d time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		done <- sub.Drain(ctx)
	}()
	synctest.Wait()
	return done
}

// unsuback answers the next UNSUBSCRIBE, which must be of filters, by codes (5.0).
func unsuback(t *testing.T, w *server.Wire, v mqtt.Version, codes []byte, filters ...string) {
	t.Helper()
	p := w.ExpectPacket()
	var u codec.Unsubscribe
	if p[0] != 0xA2 || u.Decode(v, p[2:]) != nil || !slices.Equal(u.Filters, filters) {
		t.Fatalf("got % X, want UNSUBSCRIBE of %q", p, filters)
	}
	answer := []byte{0xB0, 2, p[2], p[3]}
	if v == mqtt.V5 {
		answer = append(answer, 0)
		answer = append(answer, codes...)
		answer[1] = byte(len(answer) - 2)
	}
	w.SendBytes(answer)
	synctest.Wait()
}

// sendPublishes sends messages of QoS 1 whose identifiers and payloads are the numbers.
func sendPublishes(w *server.Wire, v mqtt.Version, topic string, numbers ...uint16) {
	for _, n := range numbers {
		w.SendBytes(rawPublish(v, 0x32, n, topic, fmt.Sprint(n)))
	}
	synctest.Wait()
}

// pubacks expects the acknowledgements of messages of QoS 1.
func pubacks(t *testing.T, w *server.Wire, ids ...byte) {
	t.Helper()
	for _, id := range ids {
		w.ExpectBytes([]byte{0x40, 2, 0, id})
	}
}

// finished expects the result of Drain.
func finished(t *testing.T, done <-chan error, want error) {
	t.Helper()
	select {
	case err := <-done:
		wantErr(t, "Drain", err, want)
	case <-time.After(2 * time.Hour):
		t.Fatal("Drain does not return")
	}
}

const shared = "$share/g/t"

// Drain hands over what is pending, what comes before UNSUBACK, and what the server had
// lined up and sends behind it; then the subscription has ended.
func TestSubscriptionDrainLosesNothing(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v))
		w := d.up(connack(v, false))
		sub := grantedSub(t, d, w, v, shared, 1, mqtt.WithBuffer(0))
		ch := sub.C()
		sendPublishes(w, v, "t", 1, 2)
		done := draining(t, sub)
		w2 := w.ExpectPacket() // UNSUBSCRIBE
		sendPublishes(w, v, "t", 3)
		answer := []byte{0xB0, 2, w2[2], w2[3]}
		if v == mqtt.V5 {
			answer = []byte{0xB0, 4, w2[2], w2[3], 0, 0}
		}
		w.SendBytes(answer)
		sendPublishes(w, v, "t", 4)
		for _, want := range []byte{1, 2, 3, 4} {
			expect(t, ch, fmt.Sprint(want))
			pubacks(t, w, want)
		}
		unsuback(t, w, v, []byte{0x11}, shared)
		finished(t, done, nil)
		if rest := drainClosed(t, ch); len(rest) > 0 {
			t.Errorf("left in the channel: %v", rest)
		}
		wantErr(t, "Err", sub.Err(), mqtt.ErrUnsubscribed)
		if st := sub.Stats(); st.Delivered != 4 || st.Dropped != 0 {
			t.Errorf("%+v", st)
		}
		wantErr(t, "a second Drain", sub.Drain(t.Context()), nil)
		sendPublishes(w, v, "t", 5) // what comes later is for no subscription
		pubacks(t, w, 5)
	})
}

// An idle subscription needs one UNSUBSCRIBE, at QoS 2 a second, since the server sends
// on when PUBCOMP answers what came before the answer to the first.
func TestSubscriptionDrainOfAnIdleOne(t *testing.T) {
	for qos, times := range []int{1, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			_, w, sub := dialGranted(t, shared, mqtt.QoS(qos))
			ch := sub.C()
			done := draining(t, sub)
			for range times {
				unsuback(t, w, mqtt.V5, []byte{0}, shared)
			}
			finished(t, done, nil)
			w.ExpectNothing(time.Second)
			drainClosed(t, ch)
		})
	}
}

// A member of a shared group leaves under traffic: every message has come to one of the
// two, once, though the server has a window and a queue for each.
func TestSharedSubscriptionLeavesUnderTraffic(t *testing.T) {
	for _, v := range versions[1:] {
		for qos := range byte(3) {
			for _, form := range []string{"channel", "handler", "manual", "loop"} {
				t.Run(fmt.Sprint(v, " QoS ", qos, " ", form), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { leaveUnderTraffic(t, v, qos, form) })
				})
			}
		}
	}
}

func leaveUnderTraffic(t *testing.T, v mqtt.Version, qos byte, form string) {
	conn, srv, network := serve(t, v, server.Config{}, mqtt.WithReceiveMaximum(1))
	other, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(v), mqtt.WithClientID("d"), mqtt.WithDialer(network.Dial), mqtt.WithReceiveMaximum(1))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1000)
	slowly := func(m mqtt.Message) { time.Sleep(10 * time.Millisecond); got <- string(m.Payload) }
	var opts []mqtt.SubscribeOption
	if form == "manual" {
		opts = append(opts, mqtt.WithManualAck())
	}
	sub, err := conn.Subscribe(t.Context(), shared, append(opts, mqtt.QoS(qos), mqtt.WithBuffer(2))...)
	if err != nil {
		t.Fatal(err)
	}
	stays, err := other.Subscribe(t.Context(), shared, mqtt.QoS(qos))
	if err != nil {
		t.Fatal(err)
	}
	stays.Handle(slowly)
	readIn(t, form, sub, slowly)
	go func() {
		for n := range 400 {
			publish(t, srv, "t", qos, fmt.Sprint(n))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	time.Sleep(300 * time.Millisecond)
	done := draining(t, sub)
	finished(t, done, nil)
	seen := map[string]int{}
	for range 400 {
		seen[take(t, got)]++
	}
	if len(seen) != 400 {
		t.Errorf("%d of 400 messages came, others twice", len(seen))
	}
	if st := sub.Stats(); st.Dropped != 0 || st.Delivered == 0 {
		t.Errorf("%+v", st)
	}
	if n := conn.Stats().Unmatched; n != 0 {
		t.Errorf("%d messages matched no subscription", n)
	}
	if st := stays.Stats(); st.Delivered == 400 {
		t.Error("the one that left had nothing")
	}
	other.Close()
}

// readIn reads sub in a form: a handler, a loop, or its channel, with "manual"
// acknowledgements or without.
func readIn(t *testing.T, form string, sub *mqtt.Subscription, body func(mqtt.Message)) {
	switch form {
	case "handler":
		sub.Handle(body)
	case "loop":
		go func() {
			for m := range sub.All() {
				body(m)
			}
		}()
	default:
		go func() {
			for m := range sub.C() {
				body(m)
				if form == "manual" {
					wantErr(t, "Ack", m.Ack(), nil)
				}
			}
		}()
	}
}

// When ctx ends first the subscription ends as by Unsubscribe, and the error says how
// much was given up.
func TestSubscriptionDrainCutShort(t *testing.T) {
	for _, why := range []string{"unread", "paused", "slow"} {
		synctest.Test(t, func(t *testing.T) {
			_, w, sub := dialGranted(t, shared, 1, mqtt.WithBuffer(0))
			switch why {
			case "paused":
				sub.Pause()
				sub.C()
			case "slow":
				sub.C()
			}
			sendPublishes(w, mqtt.V5, "t", 1, 2)
			done := drainingFor(t, sub, time.Minute)
			unsuback(t, w, mqtt.V5, []byte{0}, shared)
			select {
			case err := <-done:
				t.Fatalf("%s: Drain did not wait: %v", why, err)
			default:
			}
			err := <-done
			if !errors.Is(err, context.DeadlineExceeded) || !containsText(err, "2 messages were not handed over") {
				t.Errorf("%s: %v", why, err)
			}
			pubacks(t, w, 1, 2)
			w.ExpectNothing(time.Second)
			if st := sub.Stats(); st.Dropped != 2 {
				t.Errorf("%s: %+v", why, st)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // no answer from the server
		_, w, sub := dialGranted(t, shared, 1)
		sub.C()
		done := drainingFor(t, sub, time.Second)
		finished(t, done, context.DeadlineExceeded)
		w.ExpectPacket()
		w.ExpectNothing(time.Second)
	})
}

// A subscription that nothing read is handed over once something does.
func TestSubscriptionDrainOfAnUnreadOneWaitsForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, sub := dialGranted(t, shared, 1)
		sendPublishes(w, mqtt.V5, "t", 1)
		done := draining(t, sub)
		unsuback(t, w, mqtt.V5, []byte{0}, shared)
		expect(t, sub.C(), "1")
		pubacks(t, w, 1)
		unsuback(t, w, mqtt.V5, []byte{0x11}, shared)
		finished(t, done, nil)
	})
}

// A handler that drains its own subscription waits for itself; the error says so, and
// its message is acknowledged when it returns.
func TestSubscriptionDrainInItsOwnHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, sub := dialGranted(t, shared, 1)
		sub.Handle(func(mqtt.Message) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err := sub.Drain(ctx)
			e, ok := errors.AsType[*mqtt.CallbackError](err)
			if !ok || e.Function != fmt.Sprintf("handler of %q", shared) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: %v", err)
			}
		})
		sendPublishes(w, mqtt.V5, "t", 1)
		unsuback(t, w, mqtt.V5, []byte{0}, shared)
		pubacks(t, w, 1)
		<-sub.Done()
	})
}

// Another subscription of the filter keeps it: nothing is unsubscribed, and the drained
// one only gets nothing more.
func TestSubscriptionDrainBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, a := dialGranted(t, "t", 1, mqtt.WithBuffer(0))
		b := grantedSub(t, d, w, mqtt.V5, "t", 1)
		ca, cb := a.C(), b.C()
		sendPublishes(w, mqtt.V5, "t", 1)
		done := draining(t, a)
		w.ExpectNothing(time.Second)
		sendPublishes(w, mqtt.V5, "t", 2)
		expect(t, ca, "1")
		finished(t, done, nil)
		drainClosed(t, ca)
		expect(t, cb, "1", "2")
		pubacks(t, w, 1, 2)
		// The last one unsubscribes.
		done = draining(t, b)
		unsuback(t, w, mqtt.V5, []byte{0}, "t")
		finished(t, done, nil)
	})
}

// A Subscribe of the filter during its Drain takes it over: SUBSCRIBE stands behind
// UNSUBSCRIBE, and the old subscription hands over what it has.
func TestSubscribeDuringADrainTakesTheFilterOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, old := dialGranted(t, shared, 1, mqtt.WithBuffer(0))
		ch := old.C()
		sendPublishes(w, mqtt.V5, "t", 1)
		done := draining(t, old)
		u := w.ExpectPacket()
		fresh := grantedSub(t, d, w, mqtt.V5, shared, 1)
		w.SendBytes([]byte{0xB0, 4, u[2], u[3], 0, 0}) // late
		sendPublishes(w, mqtt.V5, "t", 2)
		expect(t, ch, "1")
		finished(t, done, nil)
		expect(t, fresh.C(), "2")
		pubacks(t, w, 1, 2)
		w.ExpectNothing(time.Second)
		w.Close()
		w = d.up(server.Connack)
		if p := w.ExpectPacket(); p[0] != 0x82 {
			t.Errorf("got % X, want SUBSCRIBE", p)
		}
	})
}

// Other ends of the subscription end its Drain too.
func TestSubscriptionDrainEndsWithItsSubscription(t *testing.T) {
	for how, want := range map[string]error{"Close": mqtt.ErrClosed, "Unsubscribe": mqtt.ErrUnsubscribed, "Conn.Unsubscribe": mqtt.ErrUnsubscribed, "context": context.Canceled} {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t, mqtt.WithSession(time.Hour))
			w := d.up(server.Connack)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := make(chan *mqtt.Subscription, 1)
			go func() {
				sub, err := d.conn.Subscribe(ctx, shared, mqtt.WithBuffer(0))
				if err != nil {
					t.Error(err)
				}
				result <- sub
			}()
			p := w.ExpectPacket()
			w.SendBytes([]byte{0x90, 4, p[2], p[3], 0, 1})
			sub := <-result
			sub.C()
			sendPublishes(w, mqtt.V5, "t", 1)
			done := draining(t, sub)
			ended, stop := context.WithCancel(t.Context())
			stop()
			switch how {
			case "Close":
				d.conn.Close()
			case "Unsubscribe":
				sub.Unsubscribe(ended)
			case "Conn.Unsubscribe":
				d.conn.Unsubscribe(ended, shared)
			case "context":
				cancel()
			}
			finished(t, done, want)
			last := w.ExpectPacket()
			for last[0] == 0xA2 { // UNSUBSCRIBE
				last = w.ExpectPacket()
			}
			if how == "Close" {
				if last[0] != 0xE0 {
					t.Errorf("got % X, want DISCONNECT and no PUBACK: the server keeps the message", last)
				}
				return
			}
			if last[0] != 0x40 {
				t.Errorf("%s: got % X, want PUBACK", how, last)
			}
			if n := d.conn.Stats().Held; n != 0 {
				t.Errorf("%s: %d messages are held for a Subscribe", how, n)
			}
		})
	}
}

// Several filters, of which another subscription has one; typed, and the catch-all.
func TestSubscriptionDrainOfOtherKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{})
		beside, err := conn.Subscribe(t.Context(), "a", mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		s, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a", QoS: 1}, {Pattern: "b/+", QoS: 2}, {Pattern: "b/#", QoS: 1}})
		if err != nil {
			t.Fatal(err)
		}
		values := mqtt.AsTyped(s, mqtt.UTF8())
		ch := values.C()
		publish(t, srv, "a", 1, "1")
		publish(t, srv, "b/c", 2, "2")
		synctest.Wait()
		done := draining(t, values.Subscription)
		finished(t, done, nil)
		var got []string
		for _, v := range drainClosed(t, ch) {
			got = append(got, v.Value)
		}
		if slices.Sort(got); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("got %q", got)
		}
		if got := held(srv); !slices.Equal(got, []string{"a"}) {
			t.Errorf("the server has %q", got)
		}
		expect(t, beside.C(), "1")

		rest := conn.CatchAll(mqtt.WithBuffer(0))
		cc := rest.C()
		if err := srv.Publish("a", []byte("2"), 1, false); err != nil {
			t.Fatal(err)
		}
		expect(t, beside.C(), "2")
		done = draining(t, rest)
		finished(t, done, nil)
		drainClosed(t, cc)
		if conn.CatchAll() == rest {
			t.Error("the catch-all was not opened anew")
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that a test feeds
		sub, feed := mqtttest.NewSubscription("t")
		feed.Send(mqtt.Message{Topic: "t", QoS: 1, Payload: []byte("1")})
		done := draining(t, sub)
		expect(t, sub.C(), "1")
		finished(t, done, nil)
	})
}

// With a durable inbox Drain hands out what waits in the store as well.
func TestSubscriptionDrainWithAnInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{}, mqtt.WithSession(time.Hour), mqtt.WithStore(new(store.Memory)), mqtt.WithInbox())
		sub, err := conn.Subscribe(t.Context(), shared, mqtt.WithManualAck(), mqtt.WithBuffer(0), mqtt.WithPendingLimit(4, 0))
		if err != nil {
			t.Fatal(err)
		}
		ch := sub.C()
		for n := range 20 {
			publish(t, srv, "t", byte(1+n%2), fmt.Sprint(n))
		}
		synctest.Wait()
		done := draining(t, sub)
		for n := range 20 {
			m := take(t, ch)
			if string(m.Payload) != fmt.Sprint(n) {
				t.Errorf("got %q, want %d", m.Payload, n)
			}
			time.Sleep(time.Second)
			wantErr(t, "Ack", m.Ack(), nil)
		}
		finished(t, done, nil)
		drainClosed(t, ch)
		if st := sub.Stats(); st.Dropped != 0 || st.Delivered != 20 {
			t.Errorf("%+v", st)
		}
	})
}
