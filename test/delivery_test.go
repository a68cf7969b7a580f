package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// 16 deliveries race the end of a subscription: no panic, what is buffered
// stays readable, the channel is closed once and Err gives the reason.
func TestDeliveriesRaceTheEnd(t *testing.T) {
	network := &server.Network{}
	srv := server.Start(network, server.Config{})
	defer srv.Close()
	connect := func() *mqtt.Conn {
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V5))
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := connect()
	for i := range chance.Rounds(1000, 100_000) {
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := conn.Subscribe(ctx, "t", mqtt.WithBuffer(i%20), mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := range 16 {
				srv.Publish("t", fmt.Append(nil, 16*i+n), byte(n%2), false)
				if n == i%16 {
					runtime.Gosched()
				}
			}
		})
		want := mqtt.ErrUnsubscribed
		switch i % 3 {
		case 0:
			wg.Go(func() { sub.Unsubscribe(t.Context()) })
		case 1:
			want = context.Canceled
			wg.Go(cancel)
		case 2:
			want = mqtt.ErrClosed
			wg.Go(func() { conn.Close() })
		}
		if i%2 == 0 {
			wg.Go(func() { readGrowing(t, sub) }) // some of the round before may come first
		}
		wg.Wait()
		<-sub.Done()
		for range sub.C() {
		}
		if err := sub.Err(); !errors.Is(err, want) {
			t.Fatalf("round %d: Err is %v, want %v", i, err, want)
		}
		cancel()
		if i%3 == 2 {
			conn = connect()
		}
	}
	conn.Close()
}

// readGrowing reads numbers that grow until sub ends.
func readGrowing(t *testing.T, sub *mqtt.Subscription) {
	last := -1
	for m := range sub.C() {
		n, _ := strconv.Atoi(string(m.Payload))
		if n <= last {
			t.Errorf("%d after %d", n, last)
		}
		last = n
	}
}

// Subscribe racing Close: it returns, and no channel is left open.
func TestSubscribeRacesClose(t *testing.T) {
	network := &server.Network{}
	srv := server.Start(network, server.Config{})
	defer srv.Close()
	for i := range 200 {
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(versions[i%3]), mqtt.WithBackoff(steady(0)))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 4 {
			opts := []mqtt.SubscribeOption{mqtt.WithImmediateDelivery()}
			if g%2 == 0 {
				opts = append(opts, mqtt.WithoutWaiting())
			}
			wg.Go(func() {
				for n := 0; ; n++ {
					sub, err := conn.Subscribe(t.Context(), fmt.Sprint("t/", n%3), opts...)
					if err != nil {
						if !errors.Is(err, mqtt.ErrClosed) {
							t.Errorf("round %d: %v", i, err)
						}
						return
					}
					if n%2 == 0 {
						sub.Unsubscribe(t.Context())
					} else {
						wg.Go(func() {
							for range sub.C() {
							}
							if sub.Err() == nil {
								t.Error("the channel closed before Err said why")
							}
						})
					}
				}
			})
		}
		wg.Go(func() {
			network.CutAll()
			runtime.Gosched()
			conn.CatchAll()
			if i%2 == 0 {
				conn.Close()
			} else {
				conn.Abort()
			}
		})
		wg.Wait()
		drainClosed(t, conn.CatchAll().C())
	}
}

// A reconnect closes nothing; the end of the subscription does.
func TestReconnectKeepsTheChannel(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		sub := subscribe(t, conn, "t")
		ch := sub.C()
		for i := range 5 {
			srv.Cut("c")
			eventually(t, "back", func() bool { return len(held(srv)) == 1 })
			publish(t, srv, "t", 1, fmt.Sprint(i))
			expect(t, ch, fmt.Sprint(i))
		}
		if sub.C() != ch || sub.Err() != nil {
			t.Error("another channel")
		}
	})
}

// With a kept session, what was not handed over when the Conn ended is
// neither delivered nor acked; what is in the channel is readable.
func TestUndeliveredStaysAtTheServer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 100}, mqtt.WithSession(time.Hour))
		sub := subscribe(t, conn, "t", mqtt.WithBuffer(3))
		ch := sub.C()
		publish(t, srv, "t", 1, numbers(1, 10)...)
		synctest.Wait()
		conn.Close()
		var got []string
		for _, m := range drainClosed(t, ch) {
			got = append(got, string(m.Payload))
		}
		if !slices.Equal(got, numbers(1, 3)) {
			t.Errorf("got %v", got)
		}
		if info, _ := srv.Session("c"); info.Open != 7 {
			t.Errorf("%+v", info)
		}
	})
}

// A message without a subscription is acked, counted and told.
func TestUnmatchedMessageIsAckedAndReported(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		events := s.conn.Watch(t.Context())
		s.message(0x32, 9, "nobody/home", "x")
		s.ExpectBytes(rawAck(0x40, 9))
		if e := nextEvent[mqtt.MessageUnmatched](t, events); e.Topic != "nobody/home" || e.Total != 1 {
			t.Errorf("%+v", e)
		}
		// What arrives for a filter being unsubscribed is acked, never held.
		sub := s.subscribed("t", 1)
		go sub.Unsubscribe(t.Context())
		s.ExpectPacket()
		s.message(0x32, 10, "t", "x")
		s.ExpectBytes(rawAck(0x40, 10))
	})
}

// The catch-all takes what matches nothing, from before the link is up on.
func TestCatchAll(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithCatchAll(mqtt.WithManualAck()))
		all := s.conn.CatchAll()
		if s.conn.CatchAll() != all {
			t.Error("there are two")
		}
		sub := s.subscribed("t", 1)
		s.message(0x33, 9, "other", "x")
		s.message(0x32, 10, "t", "y")
		m := take(t, all.C())
		if string(m.Payload) != "x" || !m.Retained() {
			t.Errorf("%+v", m)
		}
		expect(t, sub.C(), "y")
		s.ExpectNothing(time.Second)
		m.Ack()
		s.ExpectBytes(rawAck(0x40, 9))
		s.ExpectBytes(rawAck(0x40, 10))
		if n := s.conn.Stats().Unmatched; n != 0 {
			t.Errorf("%d unmatched", n)
		}
		if err := all.Unsubscribe(t.Context()); err != nil {
			t.Error(err)
		}
		drainClosed(t, all.C())
		s.message(0x32, 11, "other", "z")
		s.ExpectBytes(rawAck(0x40, 11))
		if n := s.conn.Stats().Unmatched; n != 1 {
			t.Errorf("%d unmatched", n)
		}
		again := s.conn.CatchAll()
		s.conn.Abort()
		drainClosed(t, again.C())
		drainClosed(t, s.conn.CatchAll().C())
	})
}

// Subscriptions declared at Connect are there before the first message of a
// resumed session.
func TestDeclaredAtConnect(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour), mqtt.WithSubscription("t/#", mqtt.QoS(2)))
			sub := s.conn.Subscription("t/#")
			if sub == nil || s.conn.Subscription("x") != nil {
				t.Fatal("not found by its filter")
			}
			s.message(0x3A, 9, "t/1", "from before", 77)
			p := s.ExpectPacket()
			if p[0] != 0x82 {
				t.Fatalf("got % X", p)
			}
			s.ExpectNothing(time.Second)
			expect(t, sub.C(), "from before")
			s.ExpectBytes(rawAck(0x40, 9))
			s.suback(0x90, uint16(p[2])<<8|uint16(p[3]), 2)
			<-sub.Ready()
			if sub.Granted() != 2 {
				t.Errorf("granted %d", sub.Granted())
			}
		})
	}
}

// Bytes that arrived before the peer closed are delivered before Disconnected.
func TestBytesBeforeTheEndAreDelivered(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1)
		events := s.conn.Watch(t.Context())
		ch := sub.C()
		for i := range 100 {
			s.SendBytes(rawPublish(v, 0x30, 0, "t", fmt.Sprint(i+1)))
		}
		s.Wire.Close()
		nextEvent[mqtt.Disconnected](t, events)
		for i := range 100 {
			select {
			case m := <-ch:
				if string(m.Payload) != fmt.Sprint(i+1) {
					t.Fatalf("got %q", m.Payload)
				}
			default:
				t.Fatalf("only %d there when Disconnected was told", i)
			}
		}
	})
}
