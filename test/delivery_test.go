package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
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
		sub, err := conn.Subscribe(ctx, "t", mqtt.WithBuffer(i%20), mqtt.WithDelivery())
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
			wg.Go(func() {
				last := -1
				for m := range sub.C() { // some of the round before may come first
					n, _ := strconv.Atoi(string(m.Payload))
					if n <= last {
						t.Errorf("%d after %d", n, last)
					}
					last = n
				}
			})
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
			opts := []mqtt.SubscribeOption{mqtt.WithDelivery()}
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

// Nobody wants it within the grace: UNSUBSCRIBE, and they are acked.
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
		opted := s.subscribed("o", 1, mqtt.WithDelivery())
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
