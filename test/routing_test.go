package mqtt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Shared subscriptions are routed by their filter, and named in full to the server.
func TestSharedSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		shared, plain := s.subscribed("$share/g/a/+/c", 1), s.subscribed("a/b/c", 1)
		s.message(0x30, 0, "a/b/c", "one", 1)
		s.message(0x30, 0, "a/b/c", "two", 2)
		s.message(0x30, 0, "a/x/c", "three", 1)
		expect(t, shared.C(), "one", "three")
		expect(t, plain.C(), "two")
		idle(t, plain.C())
		if _, err := s.conn.Subscribe(t.Context(), "$share/g/a/+/c"); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("the same shared filter again: %v", err)
		}
		s.Cut()
		s.next(server.Connack)
		s.ExpectBytes(rawSubscribe(mqtt.V5, 3, 3, "$share/g/a/+/c", 0x11))
		s.ExpectBytes(rawSubscribe(mqtt.V5, 4, 4, "a/b/c", 0x11)) // they overlap: a packet each
		go shared.Unsubscribe(t.Context())
		s.ExpectBytes(rawUnsubscribe(mqtt.V5, 5, "$share/g/a/+/c"))
	})
}

// EMQX's prefixes are left out when routing, too.
func TestEMQXPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		queue, exclusive := s.subscribed("$queue/q/+", 1), s.subscribed("$exclusive/e", 1)
		s.message(0x30, 0, "q/1", "one")
		s.message(0x30, 0, "e", "two")
		expect(t, queue.C(), "one")
		expect(t, exclusive.C(), "two")
	})
}

// Overlapping subscriptions, in the three ways that servers have.
func TestOverlappingSubscriptions(t *testing.T) {
	filters := []string{"a/#", "a/+", "a/b"}
	for _, c := range []struct {
		name    string
		v       mqtt.Version
		send    func(s *scripted)
		each    int
		suspect uint64
	}{
		{"one copy with all identifiers", mqtt.V5, func(s *scripted) { s.message(0x32, 9, "a/b", "x", 1, 2, 3) }, 1, 0},
		{"a copy for each, with its identifier", mqtt.V5, func(s *scripted) {
			for i := range byte(3) {
				s.message(0x32, 9+uint16(i), "a/b", "x", i+1)
			}
		}, 1, 0},
		{"copies without identifiers", mqtt.V311, func(s *scripted) {
			for i := range uint16(3) {
				s.message(0x32, 9+i, "a/b", "x")
			}
		}, 3, 3},
		{"an identifier of a former process", mqtt.V5, func(s *scripted) { s.message(0x32, 9, "a/b", "x", 77) }, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, c.v)
				var subs []*mqtt.Subscription
				for _, f := range filters {
					subs = append(subs, s.subscribed(f, 1))
				}
				c.send(s)
				for i, sub := range subs {
					expect(t, sub.C(), slices.Repeat([]string{"x"}, c.each)...)
					idle(t, sub.C())
					if st := sub.Stats(); st.Delivered != uint64(c.each) {
						t.Errorf("%s: %d delivered", filters[i], st.Delivered)
					}
				}
				if n := s.conn.Stats().Suspected; n != c.suspect {
					t.Errorf("%d suspected", n)
				}
			})
		})
	}
}

// An identifier routes only where the filter matches the topic too.
func TestIdentifierOfAnotherSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		a, b, b2 := s.subscribed("a", 1), s.subscribed("b", 1), s.subscribed("b/#", 1)
		s.message(0x30, 0, "b", "x", 1) // the identifier of "a"
		expect(t, b.C(), "x")
		expect(t, b2.C(), "x")
		idle(t, a.C())
		s.message(0x30, 0, "b", "y", 1, 2)
		expect(t, b.C(), "y")
		idle(t, b2.C())
		s.message(0x30, 0, "c", "z", 1)
		idle(t, a.C())
		if st := s.conn.Stats(); st.Unmatched != 1 {
			t.Errorf("%d unmatched", st.Unmatched)
		}
	})
}

// One Subscription with several overlapping filters takes one copy.
func TestOneSubscriptionTakesOneCopy(t *testing.T) {
	for _, copies := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn, srv, _ := serve(t, mqtt.V5, server.Config{CopyPerSubscription: copies})
			sub, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/#", QoS: 0}, {Pattern: "a/+", QoS: 2}, {Pattern: "a/b", QoS: 1}})
			if err != nil {
				t.Fatal(err)
			}
			if n := srv.Stats().Packets[codec.SUBSCRIBE]; n != 3 {
				t.Errorf("%d SUBSCRIBEs: filters that overlap need an identifier each", n)
			}
			publish(t, srv, "a/b", 2, "1", "2")
			publish(t, srv, "a/b/c", 2, "3")
			for _, want := range []struct {
				payload string
				qos     mqtt.QoS
			}{{"1", 2}, {"2", 2}, {"3", 0}} {
				if m := take(t, sub.C()); string(m.Payload) != want.payload || m.QoS != want.qos {
					t.Errorf("got %q at QoS %d, want %v", m.Payload, m.QoS, want)
				}
			}
			idle(t, sub.C())
			if st := conn.Stats(); st.Unmatched != 0 {
				t.Errorf("%d unmatched: a passed over copy is not one", st.Unmatched)
			}
			eventually(t, "all is acknowledged", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
		})
	}
}

// While the filters of one Subscription are being granted no copy is lost,
// in whatever order the server works.
func TestNoLossWhileFiltersAreGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/#", QoS: 0}, {Pattern: "a/b", QoS: 1}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectBytes(rawSubscribe(mqtt.V5, 1, 1, "a/#", 0))
		s.ExpectBytes(rawSubscribe(mqtt.V5, 2, 2, "a/b", 1))
		s.message(0x30, 0, "a/b", "before any SUBACK", 1)
		expect(t, sub.C(), "before any SUBACK")
		s.suback(0x90, 1, 0)
		s.message(0x30, 0, "a/b", "only the first is granted", 1)
		expect(t, sub.C(), "only the first is granted")
		// The SUBACK falls between the two copies of a message.
		s.message(0x32, 5, "a/b", "split", 2)
		s.suback(0x90, 2, 1)
		s.message(0x30, 0, "a/b", "split", 1)
		expect(t, sub.C(), "split")
		s.message(0x32, 6, "a/b", "after", 2)
		s.message(0x30, 0, "a/b", "after", 1)
		expect(t, sub.C(), "after")
		idle(t, sub.C())
	})
}

// The order in the channel is that on the wire, for each QoS.
func TestOrderOfDelivery(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		subs := []*mqtt.Subscription{subscribe(t, conn, "t", mqtt.QoS(2), mqtt.WithBuffer(3)), subscribe(t, conn, "#", mqtt.QoS(2), mqtt.WithBuffer(0))}
		const n = 2000
		go func() {
			for i := range n {
				srv.Publish("t", fmt.Append(nil, i), byte(i%3), false)
				if i%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
		var wg sync.WaitGroup
		for _, sub := range subs {
			wg.Go(func() {
				last := map[mqtt.QoS]int{0: -1, 1: -1, 2: -1}
				for got := 0; got < n; got++ {
					m := take(t, sub.C())
					var i int
					fmt.Sscan(string(m.Payload), &i)
					if i < last[m.QoS] || v == mqtt.V5 && i <= last[m.QoS] {
						t.Errorf("%d after %d at QoS %d", i, last[m.QoS], m.QoS)
						return
					}
					last[m.QoS] = i
				}
			})
		}
		wg.Wait()
	})
}

// Retained messages that come before the SUBACK are on the channel.
func TestRetainedBeforeSuback(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := subscribe(t, s.conn, "a/+", mqtt.WithoutWaiting())
		s.ExpectPacket()
		s.message(0x31, 0, "a/1", "old")
		s.suback(0x90, 1, 1)
		s.message(0x30, 0, "a/1", "news")
		if m := take(t, sub.C()); string(m.Payload) != "old" || !m.Retained() || m.Retain || m.Replayed() {
			t.Errorf("%+v", m)
		}
		if m := take(t, sub.C()); string(m.Payload) != "news" || m.Retained() {
			t.Errorf("%+v", m)
		}
	})
}

// Resubscribing after a lost session: Retain Handling 1 unless set, and the
// retained copies are marked.
func TestResubscribeMarksRetainedReplay(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		srv.Publish("a", []byte("old"), 1, true)
		sub := subscribe(t, conn, "a")
		if m := take(t, sub.C()); !m.Retained() || m.Replayed() {
			t.Errorf("%+v", m)
		}
		srv.Cut("c")
		if m := take(t, sub.C()); !m.Retained() || !m.Replayed() {
			t.Errorf("after resubscribing: retained %v, replayed %v", m.Retained(), m.Replayed())
		}
		synctest.Wait() // until the SUBACK is taken in
		// A newcomer is told for the first time.
		second := subscribe(t, conn, "a")
		if m := take(t, second.C()); !m.Retained() || m.Replayed() {
			t.Errorf("newcomer: retained %v, replayed %v", m.Retained(), m.Replayed())
		}
		idle(t, sub.C())
	})
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		s.subscribed("a", 1, mqtt.WithRetainHandling(2))
		s.Cut()
		s.next(server.Connack)
		s.ExpectBytes(rawSubscribe(mqtt.V5, 2, 2, "a", 0x21))
	})
}

// No Local and Retain As Published.
func TestNoLocalAndRetainAsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{})
		quiet := subscribe(t, conn, "a", mqtt.WithNoLocal())
		flags := subscribe(t, conn, "b", mqtt.WithRetainAsPublished())
		plain := subscribe(t, conn, "c")
		for _, topic := range []string{"a", "b", "c"} {
			succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: topic, QoS: 1, Retain: true, Payload: []byte("x")}))
		}
		if m := take(t, flags.C()); !m.Retained() || m.Retain {
			t.Errorf("as published: %+v", m)
		}
		if m := take(t, plain.C()); m.Retained() {
			t.Errorf("plain: %+v", m)
		}
		idle(t, quiet.C())
		publish(t, srv, "a", 1, "y")
		expect(t, quiet.C(), "y")
	})
}

// Two subscriptions of one filter share the server's.
func TestTwoSubscriptionsOfOneFilter(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		srv.Publish("a", []byte("kept"), 1, true)
		one := subscribe(t, conn, "a", mqtt.QoS(2))
		expect(t, one.C(), "kept")
		two := subscribe(t, conn, "a", mqtt.QoS(1))
		expect(t, two.C(), "kept")
		idle(t, one.C())
		info, _ := srv.Session("c")
		if len(info.Subscriptions) != 1 || info.Subscriptions[0].QoS != 2 || info.Subscriptions[0].RetainHandling != 0 {
			t.Errorf("the server holds %+v", info.Subscriptions)
		}
		publish(t, srv, "a", 1, "x")
		expect(t, one.C(), "x")
		expect(t, two.C(), "x")
		idle(t, one.C())
		if err := one.Unsubscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		drainClosed(t, one.C())
		if n := srv.Stats().Packets[codec.UNSUBSCRIBE]; n != 0 {
			t.Errorf("%d UNSUBSCRIBEs while one is left", n)
		}
		publish(t, srv, "a", 1, "y")
		expect(t, two.C(), "y")
		if err := two.Unsubscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := held(srv); len(got) != 0 {
			t.Errorf("the server holds %v", got)
		}
		if v != mqtt.V5 {
			return
		}
		subscribe(t, conn, "b", mqtt.WithNoLocal())
		for _, o := range [][]mqtt.SubscribeOption{nil, {mqtt.WithNoLocal(), mqtt.WithRetainAsPublished()}} {
			if _, err := conn.Subscribe(t.Context(), "b", o...); !errors.Is(err, mqtt.ErrSubscriptionConflict) {
				t.Errorf("other options: %v", err)
			}
		}
	})
}

// Two subscriptions made while the first is unanswered both get the retained messages.
func TestRetainedForBothWhileUnanswered(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		one := subscribe(t, s.conn, "a", mqtt.WithoutWaiting())
		two := subscribe(t, s.conn, "a", mqtt.WithoutWaiting())
		s.ExpectPacket()
		s.ExpectPacket()
		s.suback(0x90, 1, 1)
		s.message(0x31, 0, "a", "kept", 1)
		s.suback(0x90, 2, 1)
		expect(t, one.C(), "kept")
		expect(t, two.C(), "kept")
	})
}

// A refused newcomer leaves the older subscription alone.
func TestRefusedNewcomerLeavesTheOlderAlone(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		old := s.subscribed("a", 1)
		second := subscribe(t, s.conn, "a", mqtt.QoS(2), mqtt.WithoutWaiting())
		s.ExpectPacket()
		s.suback(0x90, 2, 0x80)
		<-second.Done()
		if _, ok := errors.AsType[*mqtt.SubscribeError](second.Err()); !ok || old.Err() != nil {
			t.Errorf("%v, %v", second.Err(), old.Err())
		}
		s.message(0x30, 0, "a", "x")
		expect(t, old.C(), "x")
		s.ExpectNothing(time.Second) // no UNSUBSCRIBE: the filter is still wanted
	})
}

// Unsubscribe and subscribe of one filter racing: the final state at the
// server is the final state here.
func TestRacingUnsubscribeAndSubscribe(t *testing.T) {
	seed := chance.Seed(t)
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(network.Dial))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		live := map[*mqtt.Subscription]bool{}
		for g := range 4 {
			random := chance.Stream(seed, uint64(g))
			wg.Go(func() {
				if mine := alternate(t, conn, "a", random); mine != nil {
					mu.Lock()
					live[mine] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		var last *mqtt.Subscription
		if len(live) > 0 {
			for s := range live {
				last = s
			}
			<-last.Ready()
		}
		conn.Publish(t.Context(), mqtt.Message{Topic: "x", QoS: 1}).Wait(t.Context()) // behind all of it
		if got := len(held(srv)); got != min(len(live), 1) {
			t.Errorf("the server holds %d, the client %d", got, len(live))
		}
		if last != nil {
			srv.Publish("a", []byte("x"), 1, false)
			if m := <-last.C(); string(m.Payload) != "x" {
				t.Errorf("got %q", m.Payload)
			}
		}
		conn.Close()
		srv.Close()
	}
}

// alternate subscribes and unsubscribes a filter in turn, and returns the subscription
// that is left, if one is.
func alternate(t *testing.T, conn *mqtt.Conn, filter string, random *rand.Rand) (mine *mqtt.Subscription) {
	for range chance.Rounds(300, 10_000) {
		if mine == nil {
			opts := []mqtt.SubscribeOption{mqtt.WithImmediateDelivery()}
			if random.IntN(2) == 0 {
				opts = append(opts, mqtt.WithoutWaiting())
			}
			s, err := conn.Subscribe(t.Context(), filter, opts...)
			if err != nil {
				t.Error(err)
				return nil
			}
			mine = s
			continue
		}
		if err := mine.Unsubscribe(t.Context()); err != nil {
			t.Error(err)
		}
		mine = nil
	}
	if random.IntN(2) == 0 && mine != nil {
		mine.Unsubscribe(t.Context())
		mine = nil
	}
	return mine
}
