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
	"github.com/millrace/mqtt/mqtttest/server"
)

// The end of Subscribe's context unsubscribes.
func TestSubscribeContextEnds(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		ctx, cancel := context.WithCancelCause(t.Context())
		sub, err := conn.Subscribe(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		why := errors.New("the request is over")
		cancel(why)
		<-sub.Done()
		if !errors.Is(sub.Err(), why) {
			t.Errorf("Err is %v", sub.Err())
		}
		drainClosed(t, sub.C())
		eventually(t, "unsubscribed", func() bool { return len(held(srv)) == 0 })
		if _, err := conn.Subscribe(ctx, "t"); !errors.Is(err, why) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

// The Conn's context takes subscriptions along; on a kept session no UNSUBSCRIBE is
// sent.
func TestEndOfTheConnKeepsTheSubscription(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := mqtt.Connect(ctx, "mqtt://server", mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(network.Dial), mqtt.WithSession(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		sub, err := conn.Subscribe(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-conn.Done()
		<-sub.Done()
		if n := srv.Stats().Packets[codec.UNSUBSCRIBE]; n != 0 || !slices.Equal(held(srv), []string{"t"}) {
			t.Errorf("%d UNSUBSCRIBEs, the server holds %v", n, held(srv))
		}
	})
}

// Detached on a kept session: what is pending and what arrives is held for a new
// Subscribe of the filter, in order.
func TestDetachedIsHeldForANewSubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		first, err := conn.Subscribe(ctx, "t/+", mqtt.WithBuffer(2))
		if err != nil {
			t.Fatal(err)
		}
		ch := first.C()
		publish(t, srv, "t/1", 1, numbers(1, 5)...)
		synctest.Wait()
		cancel()
		<-first.Done()
		publish(t, srv, "t/1", 1, numbers(6, 8)...)
		time.Sleep(9 * time.Second)
		if info, _ := srv.Session("c"); info.Open != 6 || len(held(srv)) != 1 {
			t.Errorf("%+v, held %v", info, held(srv))
		}
		if got := drainClosed(t, ch); len(got) != 2 {
			t.Errorf("%d in the channel of the first", len(got))
		}
		second := subscribe(t, conn, "t/+")
		expect(t, second.C(), numbers(3, 8)...)
		time.Sleep(time.Minute)
		publish(t, srv, "t/1", 1, "9")
		expect(t, second.C(), "9")
		if n := srv.Stats().Packets[codec.UNSUBSCRIBE]; n != 0 {
			t.Errorf("%d UNSUBSCRIBEs", n)
		}
		eventually(t, "all acked", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
	})
}

// Without a new Subscribe within the grace: UNSUBSCRIBE, and the messages are acked.
func TestDetachedIsUnsubscribedAfterTheGrace(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		events := conn.Watch(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := conn.Subscribe(ctx, "t")
		if err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "t", 1, numbers(1, 5)...)
		synctest.Wait()
		cancel()
		<-sub.Done()
		time.Sleep(9 * time.Second)
		if info, _ := srv.Session("c"); info.Open != 5 {
			t.Errorf("%+v", info)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if info, _ := srv.Session("c"); info.Open != 0 || len(held(srv)) != 0 {
			t.Errorf("%+v, held %v", info, held(srv))
		}
		if e := nextEvent[mqtt.MessageDropped](t, events); e.Topic != "t" || e.Total != 5 || !errors.Is(e.Err, context.Canceled) {
			t.Errorf("%+v", e)
		}
		// A request-scoped Subscribe takes the option that unsubscribes at once.
		ctx, cancel = context.WithCancel(t.Context())
		if _, err = conn.Subscribe(ctx, "r", mqtt.WithUnsubscribeAtEnd()); err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if len(held(srv)) != 0 {
			t.Errorf("held %v", held(srv))
		}
	})
}

// Ended with messages handed over: they stay the application's for 10 s, then the
// library acks them, and a later Ack is stale.
func TestMessagesUnackedAfterTheEndAreAbandoned(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100})
		events := conn.Watch(t.Context())
		sub := subscribe(t, conn, "t", mqtt.WithManualAck(), mqtt.WithBuffer(3))
		publish(t, srv, "t", 1, numbers(1, 6)...)
		a, b := take(t, sub.C()), take(t, sub.C())
		synctest.Wait()
		sub.Unsubscribe(t.Context())
		time.Sleep(9 * time.Second)
		if err := b.Ack(); err != nil {
			t.Errorf("within the grace: %v", err)
		}
		if info, _ := srv.Session("c"); info.Open != 6 {
			t.Errorf("%+v: acks leave in order, and the first is not acked", info)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if info, _ := srv.Session("c"); info.Open != 0 {
			t.Errorf("%+v", info)
		}
		if err := a.Ack(); !errors.Is(err, mqtt.ErrStale) {
			t.Errorf("later: %v", err)
		}
		if e := nextEvent[mqtt.MessageDropped](t, events); !errors.Is(e.Err, mqtt.ErrStale) || e.Total != 4 {
			t.Errorf("%+v", e)
		}
		if st := sub.Stats(); st.Dropped != 1 {
			t.Errorf("%+v: one was not handed over", st)
		}
	})
}

// A subscription whose delivery began by WithImmediateDelivery is held like any other when it
// is detached.
func TestDetachedWithDeliveryIsHeld(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		first, err := conn.Subscribe(ctx, "t", mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-first.Done()
		publish(t, srv, "t", 1, numbers(1, 5)...)
		synctest.Wait()
		if s := conn.Stats(); s.Held != 5 || s.AcksOwed != 5 {
			t.Errorf("%+v", s)
		}
		expect(t, subscribe(t, conn, "t").C(), numbers(1, 5)...)
	})
}

// One Subscribe that claims several detached filters gets them as they came.
func TestSubscribeClaimsSeveralDetachedInOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		for _, f := range []string{"a", "b"} {
			if _, err := conn.Subscribe(ctx, f); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, srv, "a", 1, "1")
		publish(t, srv, "b", 1, "2")
		synctest.Wait()
		cancel()
		synctest.Wait()
		publish(t, srv, "b", 1, "3")
		publish(t, srv, "a", 1, "4")
		synctest.Wait()
		sub, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "b", QoS: 1}, {Pattern: "a", QoS: 1}})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, sub.C(), numbers(1, 4)...)
	})
}

// A detached subscription of a filter that another subscription has holds nothing back.
func TestDetachedBesideAnotherHoldsNothing(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := conn.Subscribe(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		other := subscribe(t, conn, "t").C()
		publish(t, srv, "t", 1, numbers(1, 5)...)
		synctest.Wait()
		cancel()
		synctest.Wait()
		publish(t, srv, "t", 1, numbers(6, 9)...)
		expect(t, other, numbers(1, 9)...)
		synctest.Wait()
		if s := conn.Stats(); s.Held != 0 || s.AcksOwed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A Subscribe straight after the end of the former one's context takes over from
// it, though the former does not know it yet.
func TestSubscribeRightAfterADetachTakesOver(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		for round := range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := conn.Subscribe(ctx, "t"); err != nil {
				t.Fatal(err)
			}
			publish(t, srv, "t", 1, fmt.Sprint(round))
			synctest.Wait()
			cancel()
			next, err := conn.Subscribe(t.Context(), "t")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, next.C(), fmt.Sprint(round))
			next.Unsubscribe(t.Context())
		}
	})
}

// What a pump has in hand when its subscription is detached goes to the next one
// before what was pending behind it.
func TestMessageInDeliveryComesFirstAfterADetach(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		for range 300 {
			ctx, cancel := context.WithCancel(t.Context())
			former, err := conn.Subscribe(ctx, "t", mqtt.WithBuffer(0))
			if err != nil {
				t.Fatal(err)
			}
			former.C()
			publish(t, srv, "t", 1, numbers(1, 4)...)
			synctest.Wait()
			cancel()
			next := subscribe(t, conn, "t")
			expect(t, next.C(), numbers(1, 4)...)
			next.Unsubscribe(t.Context())
		}
	})
}

// A Drain that lasts longer than the grace of a detached subscription
// gives up nothing of what that one held.
func TestDrainKeepsTheDetachedBeyondTheGrace(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := conn.Subscribe(ctx, "t"); err != nil {
			t.Fatal(err)
		}
		subscribe(t, conn, "u").Handle(func(mqtt.Message) { time.Sleep(time.Minute) })
		publish(t, srv, "u", 1, "slow")
		publish(t, srv, "t", 1, numbers(1, 5)...)
		synctest.Wait()
		cancel()
		synctest.Wait()
		conn.Drain(t.Context())
		synctest.Wait() // let the server read it
		if info, _ := srv.Session("c"); info.Open+info.Queued != 5 || !slices.Equal(held(srv), []string{"t", "u"}) {
			t.Errorf("%+v", info)
		}
	})
}
