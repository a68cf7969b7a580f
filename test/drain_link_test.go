package mqtt_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// The link is lost: UNSUBSCRIBE goes out on the next, what the server sends again is
// recognised, and what it sends behind it is handed over.
func TestSubscriptionDrainOverALostLink(t *testing.T) {
	for _, v := range versions[1:] {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour))
			w := d.up(connack(v, false))
			sub := grantedSub(t, d, w, v, shared, 1, mqtt.WithBuffer(0))
			ch := sub.C()
			sendPublishes(w, v, "t", 1)
			done := draining(t, sub)
			w.ExpectPacket() // UNSUBSCRIBE, which gets no answer
			w.Close()
			synctest.Wait()
			expect(t, ch, "1")
			w = d.up(connack(v, true))
			first := w.ExpectPacket()
			if first[0] != 0xA2 {
				t.Fatalf("got % X, want UNSUBSCRIBE", first)
			}
			w.SendBytes(rawPublish(v, 0x3A, 1, "t", "1"))
			sendPublishes(w, v, "t", 2)
			pubacks(t, w, 1)
			answer := []byte{0xB0, 2, first[2], first[3]}
			if v == mqtt.V5 {
				answer = []byte{0xB0, 4, first[2], first[3], 0, 0}
			}
			w.SendBytes(answer)
			expect(t, ch, "2")
			pubacks(t, w, 2)
			unsuback(t, w, v, []byte{0x11}, shared)
			finished(t, done, nil)
			if rest := drainClosed(t, ch); len(rest) > 0 {
				t.Errorf("%v came again", rest)
			}
		})
	}
}

// The server lost the session: there is nothing to unsubscribe, and the filter is not
// subscribed again.
func TestSubscriptionDrainWhenTheSessionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithSession(time.Hour))
		w := d.up(server.Connack)
		sub := grantedSub(t, d, w, mqtt.V5, shared, 1)
		ch := sub.C()
		done := draining(t, sub)
		w.ExpectPacket()
		w.Close()
		w = d.up(server.Connack)
		finished(t, done, nil)
		w.ExpectNothing(time.Second)
		drainClosed(t, ch)
	})
}

// Without a link a clean session is gone, and what is here is handed over. A kept one
// waits for the link.
func TestSubscriptionDrainOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, sub := dialGranted(t, shared, 1, mqtt.WithBuffer(0))
		ch := sub.C()
		sendPublishes(w, mqtt.V5, "t", 1)
		d.net.RefuseDials(1_000_000, nil)
		w.Close()
		synctest.Wait()
		done := draining(t, sub)
		expect(t, ch, "1")
		finished(t, done, nil)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithSession(time.Hour))
		w := d.up(server.Connack)
		sub := grantedSub(t, d, w, mqtt.V5, shared, 1)
		sub.C()
		w.Close()
		synctest.Wait()
		done := draining(t, sub)
		w = d.up(server.ConnackPresent)
		unsuback(t, w, mqtt.V5, []byte{0}, shared)
		finished(t, done, nil)
	})
}

// The server refuses: what is here is handed over, and the refusal is the result.
func TestSubscriptionDrainRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, sub := dialGranted(t, shared, 1, mqtt.WithBuffer(0))
		ch := sub.C()
		sendPublishes(w, mqtt.V5, "t", 1)
		done := draining(t, sub)
		unsuback(t, w, mqtt.V5, []byte{0x87}, shared)
		expect(t, ch, "1")
		finished(t, done, mqtt.ErrNotAuthorized)
		drainClosed(t, ch)
	})
}

// A server that answers UNSUBSCRIBE wrongly on three links refuses, too.
func TestSubscriptionDrainGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithSession(time.Hour), mqtt.WithErrorPolicy(func(error) mqtt.Decision { return mqtt.DecideRetry }))
		w := d.up(server.Connack)
		sub := grantedSub(t, d, w, mqtt.V5, shared, 1)
		sub.C()
		done := draining(t, sub)
		for range 3 {
			p := w.ExpectPacket()
			w.SendBytes([]byte{0x90, 4, p[2], p[3], 0, 0}) // SUBACK
			w.Rest()
			w = d.up(server.ConnackPresent)
		}
		finished(t, done, mqtt.ErrWrongAck)
	})
}

// Drain races other ends of the subscription, lost links and a Subscribe of the filter:
// it returns, the channel is closed, and nothing is left at the server.
func TestSubscriptionDrainRaces(t *testing.T) {
	network := &server.Network{}
	srv := server.Start(network, server.Config{})
	defer srv.Close()
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithClientID("c"),
		mqtt.WithSession(time.Hour), mqtt.WithBackoff(steady(0)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range chance.Rounds(300, 20_000) {
		scope, end := context.WithCancel(t.Context())
		sub, err := conn.Subscribe(scope, "t", mqtt.WithBuffer(i%3), mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for range sub.C() {
			}
		})
		wg.Go(func() {
			for n := range 8 {
				srv.Publish("t", []byte("x"), byte(n%3), false)
			}
		})
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%50)*time.Millisecond)
			defer cancel()
			sub.Drain(ctx)
		})
		wg.Go(func() {
			switch i % 6 {
			case 0:
				sub.Unsubscribe(t.Context())
			case 1:
				conn.Unsubscribe(t.Context(), "t")
			case 2:
				end()
			case 3:
				srv.Cut("c")
			case 4:
				sub.Drain(t.Context())
			case 5:
				comeAndGo(t, conn, "t")
			}
		})
		wg.Wait()
		<-sub.Done()
		end()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := conn.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
	if err := srv.Wait(ctx, func() bool { return len(held(srv)) == 0 }); err != nil {
		t.Errorf("the server still has %q", held(srv))
	}
}

// comeAndGo subscribes to a filter and unsubscribes it.
func comeAndGo(t *testing.T, conn *mqtt.Conn, filter string) {
	sub, err := conn.Subscribe(t.Context(), filter)
	if err != nil {
		t.Error(err)
		return
	}
	sub.Unsubscribe(t.Context())
}

// Two Drains of one subscription at once end together, both well.
func TestTwoSubscriptionDrainsAtOnce(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		s := subscribe(t, conn, "a")
		publish(t, srv, "a", 1, "1", "2")
		synctest.Wait()
		done := []<-chan error{draining(t, s), draining(t, s)}
		expect(t, s.C(), "1", "2")
		for _, d := range done {
			finished(t, d, nil)
		}
		if err := s.Err(); !errors.Is(err, mqtt.ErrUnsubscribed) {
			t.Errorf("the subscription ended with %v", err)
		}
	})
}
