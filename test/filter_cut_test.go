package mqtt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// cutter is a server that cuts the link at every packet of a type that has a text in
// its body, as servers do that refuse a filter without saying so.
type cutter struct {
	srv  *server.Server
	typ  codec.Type
	text string
	on   atomic.Bool
	cuts atomic.Int32
}

func (c *cutter) cut(id string, p server.Packet) bool {
	if !c.on.Load() || p.Type != c.typ || !bytes.Contains(p.Body, []byte(c.text)) {
		return false
	}
	c.cuts.Add(1)
	c.srv.Cut(id)
	return true
}

// serveCutter is serve with a cutter.
func serveCutter(t *testing.T, v mqtt.Version, typ codec.Type, text string, opts ...mqtt.ConnectOption) (*mqtt.Conn, *cutter) {
	t.Helper()
	c := &cutter{typ: typ, text: text}
	c.on.Store(true)
	conn, srv, _ := serve(t, v, server.Config{}, opts...)
	c.srv = srv
	srv.Change(func(cfg *server.Config) { cfg.OnPacket = c.cut })
	return conn, c
}

// inEachSession runs test in every version, with and without a session that is kept.
func inEachSession(t *testing.T, test func(t *testing.T, v mqtt.Version, opts []mqtt.ConnectOption)) {
	for _, opts := range [][]mqtt.ConnectOption{nil, {mqtt.WithSession(time.Hour)}, {mqtt.WithSession(time.Hour), mqtt.WithResubscribeOnReconnect()}} {
		t.Run(fmt.Sprintf("%d options", len(opts)), func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) { test(t, v, opts) })
		})
	}
}

// wantSetAside fails the test unless err says that a packet of filter was set aside.
func wantSetAside(t *testing.T, err error, packet codec.Type, filter string) {
	t.Helper()
	e, ok := errors.AsType[*mqtt.SetAsideError](err)
	if !ok || e.Packet != packet || e.Filter != filter || e.Err == nil {
		t.Errorf("got %v, want a SetAsideError of %v %q", err, packet, filter)
	}
	wantErr(t, "the filter", err, mqtt.ErrSetAside)
}

// A server that cuts the link at the SUBSCRIBE of one filter fails that Subscribe and
// nothing else: the event names the filter, the other subscription gets its messages,
// and publishes go out.
func TestServerThatCutsAtASubscribeFailsItAlone(t *testing.T) {
	inEachSession(t, func(t *testing.T, v mqtt.Version, opts []mqtt.ConnectOption) {
		conn, c := serveCutter(t, v, codec.SUBSCRIBE, "forbidden", opts...)
		good := subscribe(t, conn, "good")
		time.Sleep(time.Minute)
		events := conn.Watch(t.Context())
		began := time.Now()
		done := make(chan error, 1)
		go func() { _, err := conn.Subscribe(t.Context(), "forbidden/#"); done <- err }()
		synctest.Wait()
		fut := conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		err := take(t, done)
		wantSetAside(t, err, codec.SUBSCRIBE, "forbidden/#")
		if _, ok := errors.AsType[*mqtt.SubscribeError](err); !ok {
			t.Errorf("got %T", err)
		}
		if n := c.cuts.Load(); n > 6 || time.Since(began) > 15*time.Second {
			t.Errorf("found after %d cuts and %v", n, time.Since(began))
		}
		if ev := nextEvent[mqtt.FilterSetAside](t, events); ev.Packet != codec.SUBSCRIBE || ev.Filter != "forbidden/#" || ev.Err == nil {
			t.Errorf("%+v", ev)
		}
		cuts := c.cuts.Load()
		succeeded(t, fut)
		eventually(t, "the good one is back", func() bool { return slices.Equal(held(c.srv), []string{"good"}) })
		publish(t, c.srv, "good", 1, "1", "2")
		expect(t, good.C(), "1", "2")
		time.Sleep(time.Hour)
		if n := c.cuts.Load(); n != cuts {
			t.Errorf("%d cuts later on", n-cuts)
		}
		if evs := told[mqtt.PublishSetAside](conn); len(evs) > 0 {
			t.Errorf("set aside: %+v", evs)
		}
	})
}

// A subscription that the server had granted, and cuts at when it is asked for again,
// ends with the typed error; the rest of the Conn goes on.
func TestServerThatCutsAtAResubscriptionEndsIt(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, c := serveCutter(t, v, codec.SUBSCRIBE, "forbidden")
		c.on.Store(false)
		subscribe(t, conn, "a")
		bad, shares := subscribe(t, conn, "forbidden"), subscribe(t, conn, "forbidden")
		some, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "b"}, {Pattern: "forbidden"}, {Pattern: "c"}}, mqtt.WithPartialSuccess())
		if err != nil {
			t.Fatal(err)
		}
		good := subscribe(t, conn, "d")
		time.Sleep(time.Minute)
		c.on.Store(true)
		c.srv.Cut("c")
		for _, s := range []*mqtt.Subscription{bad, shares} {
			<-s.Done()
			wantSetAside(t, s.Err(), codec.SUBSCRIBE, "forbidden")
		}
		if n := c.cuts.Load(); n > 6 {
			t.Errorf("%d cuts", n)
		}
		eventually(t, "the others are back", func() bool { return slices.Equal(held(c.srv), []string{"a", "b", "c", "d"}) })
		for _, s := range []*mqtt.Subscription{some, good} {
			if s.Err() != nil {
				t.Errorf("%v", s.Err())
			}
		}
		publish(t, c.srv, "c", 1, "1")
		expect(t, some.C(), "1")
		wantSetAside(t, some.Results()[1].Err, codec.SUBSCRIBE, "forbidden")
		lost := 0
		for _, ev := range drainEvents(conn.Events()) {
			if ev, ok := ev.(mqtt.SubscriptionLost); ok && ev.Filter == "forbidden" {
				lost++
			}
		}
		if lost != 3 {
			t.Errorf("%d SubscriptionLost, want one for each", lost)
		}
	})
}

// Several filters that the server cuts at cost three links each beyond the first, and
// one of a packet of eight does not take the other seven with it.
func TestEachFilterThatIsCutAtIsFound(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, c := serveCutter(t, v, codec.SUBSCRIBE, "bad")
		var filters []mqtt.Filter
		for i := range 8 {
			name := fmt.Sprintf("good/%d", i)
			if i == 2 || i == 6 {
				name = fmt.Sprintf("bad/%d", i)
			}
			filters = append(filters, mqtt.Filter{Pattern: name})
		}
		done := make(chan *mqtt.Subscription, 1)
		go func() {
			s, err := conn.SubscribeMany(t.Context(), filters, mqtt.WithPartialSuccess())
			if err != nil {
				t.Error(err)
			}
			done <- s
		}()
		s := take(t, done)
		for i, r := range s.Results() {
			if i == 2 || i == 6 {
				wantSetAside(t, r.Err, codec.SUBSCRIBE, filters[i].Pattern)
			} else if r.Err != nil {
				t.Errorf("%s: %v", r.Filter, r.Err)
			}
		}
		if n := c.cuts.Load(); n > 9 {
			t.Errorf("%d cuts", n)
		}
	})
}

// A server that cuts the link at an UNSUBSCRIBE is not sent it for ever. What it still
// sends for the filter is acknowledged and counted, on later links at once too.
func TestServerThatCutsAtAnUnsubscribeKeepsTheFilter(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			conn, c := serveCutter(t, v, codec.UNSUBSCRIBE, "stays", mqtt.WithSession(time.Hour))
			good, stays := subscribe(t, conn, "good"), subscribe(t, conn, "stays/#")
			events := conn.Watch(t.Context())
			if err := stays.Unsubscribe(t.Context()); err != nil {
				t.Error(err)
			}
			if ev := nextEvent[mqtt.FilterSetAside](t, events); ev.Packet != codec.UNSUBSCRIBE || ev.Filter != "stays/#" {
				t.Errorf("%+v", ev)
			}
			time.Sleep(time.Minute)
			if n := c.cuts.Load(); n > 6 {
				t.Errorf("%d cuts", n)
			}
			c.srv.Cut("c")
			nextEvent[mqtt.Connected](t, events)
			publish(t, c.srv, "stays/1", 1, "x")
			publish(t, c.srv, "good", 1, "y")
			expect(t, good.C(), "y")
			synctest.Wait() // until both are acknowledged
			if st := conn.Stats(); st.Unmatched != 1 || st.Held != 0 || st.AcksOwed != 0 {
				t.Errorf("%+v", st)
			}
			// It can be subscribed again, and then is not at the server for ever.
			c.on.Store(false)
			again := subscribe(t, conn, "stays/#")
			if err := again.Unsubscribe(t.Context()); err != nil {
				t.Error(err)
			}
			if got := held(c.srv); !slices.Equal(got, []string{"good"}) {
				t.Errorf("the server has %v", got)
			}
		})
	}
}

// A network that cuts links while they are young accuses no filter, not even the only
// one there is.
func TestCutsAccuseNoInnocentFilter(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("a", 1)
		for n := range 30 {
			time.Sleep(time.Duration(n%10) * 90 * time.Millisecond)
			s.Cut()
			s.next(connack(v, false))
		}
		time.Sleep(2 * time.Second)
		p := s.ExpectPacket()
		s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
		if sub.Err() != nil {
			t.Error(sub.Err())
		}
		if evs := told[mqtt.FilterSetAside](s.conn); len(evs) > 0 {
			t.Errorf("set aside: %+v", evs)
		}
	})
}

// In a session that is kept, a second subscription of a filter at whose SUBSCRIBE the
// server cuts ends alone: the first one stands at the server.
func TestSecondSubscriptionThatIsCutAtLeavesTheFirst(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			conn, c := serveCutter(t, v, codec.SUBSCRIBE, "a", mqtt.WithSession(time.Hour))
			c.on.Store(false)
			first := subscribe(t, conn, "a", mqtt.QoS(1))
			c.on.Store(true)
			done := make(chan error, 1)
			go func() { _, err := conn.Subscribe(t.Context(), "a", mqtt.QoS(2)); done <- err }()
			wantSetAside(t, take(t, done), codec.SUBSCRIBE, "a")
			publish(t, c.srv, "a", 1, "1")
			expect(t, first.C(), "1")
		})
	}
}

// WithSubscribeTimeout counts the time with a link over all links: a server that cuts
// a while after the SUBSCRIBE, which accuses nothing, does not hold Subscribe for ever.
func TestSubscribeTimeoutAddsUpOverLinks(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSubscribeTimeout(5*time.Second))
		began := time.Now()
		done := make(chan error, 1)
		go func() { _, err := s.conn.Subscribe(t.Context(), "a"); done <- err }()
		for range 4 { // 1.2 s each, and a second offline behind it
			s.ExpectPacket()
			time.Sleep(1200 * time.Millisecond)
			s.Cut()
			s.next(connack(v, false))
		}
		s.ExpectPacket()
		if err := take(t, done); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("it took %v, want 5 s with a link and 4 s without", took)
		}
	})
}

// While the server cuts at a filter, in a session that is kept, every message of an
// innocent subscription arrives, once at QoS 2, and every publish goes out.
func TestInnocentTrafficOutlivesAFilterThatIsCutAt(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			conn, c := serveCutter(t, v, codec.SUBSCRIBE, "forbidden", mqtt.WithSession(time.Hour), mqtt.WithBackoff(backoff.Exponential{}))
			good := subscribe(t, conn, "good", mqtt.QoS(2)).C()
			done := make(chan error, 1)
			const n = 600
			var futs []*mqtt.Future
			for i := range n {
				futs = append(futs, conn.Publish(t.Context(), mqtt.Message{Topic: "good", Payload: []byte(fmt.Sprint(i + 1)), QoS: 2}))
				if i == 10 {
					go func() { _, err := conn.Subscribe(t.Context(), "forbidden"); done <- err }()
				}
				time.Sleep(100 * time.Millisecond)
			}
			wantSetAside(t, take(t, done), codec.SUBSCRIBE, "forbidden")
			for _, f := range futs {
				succeeded(t, f)
			}
			expect(t, good, numbers(1, n)...)
			idle(t, good)
			if cuts := c.cuts.Load(); cuts > 6 {
				t.Errorf("%d cuts", cuts)
			}
		})
	}
}

// resubscribedAtTheCut has a server that cuts the link 300 ms after each packet of typ,
// the sixth of which sets filter "f" aside, and calls meanwhile 100 ms before that one.
func resubscribedAtTheCut(t *testing.T, v mqtt.Version, typ codec.Type, meanwhile func(*mqtt.Conn)) (*mqtt.Conn, *server.Server, *atomic.Bool) {
	t.Helper()
	on := new(atomic.Bool)
	var packets atomic.Int32
	conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
	srv.Change(func(cfg *server.Config) {
		cfg.OnPacket = func(id string, p server.Packet) bool {
			if p.Type != typ || !on.Load() || packets.Load() == 6 {
				return false
			}
			last := packets.Add(1) == 6
			go func() {
				time.Sleep(200 * time.Millisecond)
				if last {
					meanwhile(conn)
				}
				time.Sleep(100 * time.Millisecond)
				srv.Cut(id)
			}()
			return true
		}
	})
	return conn, srv, on
}

// A filter that is subscribed anew while its UNSUBSCRIBE is set aside stays with the
// newer subscription, and Drain of that one has nothing to do with the older one.
func TestUnsubscribeSetAsideSparesANewerSubscription(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		newer := make(chan *mqtt.Subscription, 1)
		conn, srv, on := resubscribedAtTheCut(t, v, codec.UNSUBSCRIBE, func(c *mqtt.Conn) {
			s, _ := c.Subscribe(context.Background(), "f", mqtt.WithoutWaiting())
			newer <- s
		})
		s := subscribe(t, conn, "f")
		time.Sleep(time.Minute)
		on.Store(true)
		go s.Unsubscribe(t.Context())
		time.Sleep(time.Minute)
		on.Store(false)
		again := take(t, newer)
		if got := held(srv); !slices.Equal(got, []string{"f"}) {
			t.Errorf("the server has %v", got)
		}
		publish(t, srv, "f", 1, "1")
		expect(t, again.C(), "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := again.Drain(ctx); err != nil {
			t.Errorf("Drain: %v", err)
		}
		if got := held(srv); len(got) > 0 {
			t.Errorf("the server has %v after Drain", got)
		}
	})
}

// A filter that is unsubscribed and subscribed anew while its SUBSCRIBE is set aside is
// asked for anew.
func TestSubscribeSetAsideSparesANewerSubscription(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		newer := make(chan *mqtt.Subscription, 1)
		conn, srv, on := resubscribedAtTheCut(t, v, codec.SUBSCRIBE, func(c *mqtt.Conn) {
			over, cancel := context.WithCancel(context.Background())
			cancel()
			c.Unsubscribe(over, "f")
			s, _ := c.Subscribe(context.Background(), "f", mqtt.WithoutWaiting())
			newer <- s
		})
		time.Sleep(time.Minute)
		on.Store(true)
		go conn.Subscribe(t.Context(), "f")
		time.Sleep(time.Minute)
		again := take(t, newer)
		if err := again.Err(); err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "f", 1, "1")
		expect(t, again.C(), "1")
	})
}
