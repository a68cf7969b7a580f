package mqtt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// 100 messages queued, routes declared at Connect: all come out in order on
// the right channel.
func TestDeclaredSubscriptionsGetTheBacklogInOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "a/+", "b")
		for i := range 50 {
			publish(t, k.srv, "a/x", 1, fmt.Sprint("a", i))
			publish(t, k.srv, "b", 2, fmt.Sprint("b", i))
		}
		conn := k.connect(mqtt.WithSubscription("a/+", mqtt.QoS(2)), mqtt.WithSubscription("b", mqtt.QoS(2)))
		a, b := conn.Subscription("a/+").C(), conn.Subscription("b").C()
		for i := range 50 {
			expect(t, a, fmt.Sprint("a", i))
			expect(t, b, fmt.Sprint("b", i))
		}
		k.allAcked()
		if s := conn.Stats(); s.Unmatched+uint64(s.Held) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Without a route they are held for the grace, then acked in order, counted and
// told, and the session goes on.
func TestUnwantedBacklogIsAckedAfterTheGrace(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			k := keepSession(t, v, "t/+", "later")
			publish(t, k.srv, "t/1", qos, numbers(1, 99)...)
			publish(t, k.srv, "t/2", qos, "100")
			conn := k.connect()
			events := conn.Watch(t.Context())
			time.Sleep(9900 * time.Millisecond)
			if s := conn.Stats(); s.Held != 10 || s.AcksOwed != 10 || s.Unmatched != 0 || k.open() != 10 {
				t.Errorf("%+v, %d open", s, k.open())
			}
			time.Sleep(time.Second)
			k.allAcked()
			if e := nextEvent[mqtt.MessageUnmatched](t, events); e.Topic != "t/1" {
				t.Errorf("%+v", e)
			}
			if s := conn.Stats(); s.Held != 0 || s.AcksOwed != 0 || s.Unmatched != 100 {
				t.Errorf("%+v", s)
			}
			late := subscribe(t, conn, "later", mqtt.QoS(2))
			publish(t, k.srv, "later", qos, numbers(1, 100)...)
			expect(t, late.C(), numbers(1, 100)...)
			k.allAcked()
		})
	}
}

// Events name what was given up by topic, and leave room for others.
func TestBacklogEventsNameTheTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, connack(mqtt.V5, true), mqtt.WithSession(time.Hour))
		events := s.conn.Watch(t.Context())
		for i := range uint16(100) {
			s.message(0x32, i+1, fmt.Sprint("t/", i/3), "x")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := range 16 {
			if e := nextEvent[mqtt.MessageUnmatched](t, events); e.Topic != fmt.Sprint("t/", i) || e.Count != 3 || e.Total != 100 {
				t.Errorf("%+v", e)
			}
		}
		idle(t, events)
	})
}

// A Subscribe 5 s after CONNACK claims all, also what comes later.
func TestSubscribeClaimsTheBacklog(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			k := keepSession(t, v, "t/+")
			publish(t, k.srv, "t/1", qos, numbers(1, 100)...)
			conn := k.connect()
			time.Sleep(5 * time.Second)
			if k.open() != 10 {
				t.Errorf("%d open", k.open())
			}
			sub := subscribe(t, conn, "t/+", mqtt.QoS(2))
			publish(t, k.srv, "t/1", qos, numbers(101, 110)...)
			expect(t, sub.C(), numbers(1, 110)...)
			k.allAcked()
			time.Sleep(time.Minute)
			idle(t, sub.C())
			if s := conn.Stats(); s.Unmatched+uint64(s.Held) != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Several subscribers claim what is theirs; acks stay in the order of arrival.
func TestEachSubscriptionClaimsItsPartOfTheBacklog(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "#")
		k.srv.Change(func(c *server.Config) { c.Inflight = 100 })
		for i := range 10 {
			publish(t, k.srv, "a/x", 1, fmt.Sprint(i))
			publish(t, k.srv, "b", 2, fmt.Sprint(i))
			publish(t, k.srv, "c", 1, fmt.Sprint(i))
		}
		conn := k.connect()
		c := subscribe(t, conn, "c", mqtt.QoS(2))
		expect(t, c.C(), numbers(0, 9)...)
		both, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "b", QoS: 2}, {Pattern: "a/+", QoS: 2}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			for _, topic := range []string{"a/x", "b"} { // as they came, whatever the order of the filters
				if m := take(t, both.C()); m.Topic != topic || string(m.Payload) != fmt.Sprint(i) {
					t.Fatalf("got %q on %q, want %d on %q", m.Payload, m.Topic, i, topic)
				}
			}
		}
		k.allAcked()
	})
}

// With the catch-all open nothing is held; opened later, it claims all.
func TestCatchAllClaimsTheBacklog(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "t")
		publish(t, k.srv, "t", 1, numbers(1, 30)...)
		conn := k.connect(mqtt.WithCatchAll())
		expect(t, conn.CatchAll().C(), numbers(1, 30)...)
		k.allAcked()
		conn.Close()

		publish(t, k.srv, "t", 1, numbers(31, 60)...)
		conn = k.connect()
		time.Sleep(time.Second)
		all := conn.CatchAll()
		expect(t, all.C(), numbers(31, 60)...)
		k.allAcked()
		all.Unsubscribe(t.Context())
		publish(t, k.srv, "t", 1, "61") // held again
		if s := conn.Stats(); k.open() != 1 || conn.Stats().Held != 1 {
			t.Errorf("%+v", s)
		}
		expect(t, subscribe(t, conn, "t").C(), "61")
	})
}

// A link lost while messages are held: they are kept, the server's copies are
// recognised, and the grace begins anew.
func TestBacklogOutlivesTheLink(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			k := keepSession(t, v, "t")
			publish(t, k.srv, "t", qos, numbers(1, 40)...)
			conn := k.connect()
			for range 3 {
				time.Sleep(8 * time.Second)
				k.srv.Cut("c")
				time.Sleep(2 * time.Second)
			}
			if s := conn.Stats(); s.Held != 10 || s.Redelivered != 30 || k.open() != 10 {
				t.Errorf("%+v, %d open", s, k.open())
			}
			sub := subscribe(t, conn, "t", mqtt.QoS(2))
			expect(t, sub.C(), numbers(1, 40)...)
			k.allAcked()
			idle(t, sub.C())
		})
	}
}

// The grace ends while there is no link: the next link's counts.
func TestBacklogGraceThatEndsOffline(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "t")
		publish(t, k.srv, "t", 1, numbers(1, 5)...)
		conn := k.connect()
		k.network.OnDial(func(int, string) error { return errors.New("away") })
		k.srv.Cut("c")
		time.Sleep(time.Minute)
		if s := conn.Stats(); s.Held != 5 {
			t.Errorf("%+v", s)
		}
		k.network.OnDial(nil)
		eventually(t, "connected", func() bool { return conn.State() == mqtt.StateConnected })
		time.Sleep(9 * time.Second)
		expect(t, subscribe(t, conn, "t").C(), numbers(1, 5)...)
		k.allAcked()
	})
}

// Close, Disconnect and Drain leave what is held to the server: the next process has it.
func TestEndsLeaveTheBacklogAtTheServer(t *testing.T) {
	for name, end := range map[string]func(*mqtt.Conn) error{
		"Close":      (*mqtt.Conn).Close,
		"Disconnect": func(c *mqtt.Conn) error { return c.Disconnect(context.Background()) },
		"Drain":      func(c *mqtt.Conn) error { return c.Drain(context.Background()) },
		"Abort":      func(c *mqtt.Conn) error { c.Abort(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				k := keepSession(t, v, "t", "u")
				publish(t, k.srv, "t", 1, numbers(1, 9)...)
				publish(t, k.srv, "t", 2, numbers(10, 20)...)
				conn := k.connect()
				if err := end(conn); err != nil {
					t.Fatal(err)
				}
				if n := len(k.ids(2, codec.PUBACK, 0)) + len(k.ids(2, codec.PUBREC, 0)); n != 0 {
					t.Errorf("%d acknowledgements", n)
				}
				next := k.connect(mqtt.WithSubscription("t", mqtt.QoS(2)))
				expect(t, next.Subscription("t").C(), numbers(1, 20)...)
				k.allAcked()
			})
		})
	}
}

// A Drain that lasts longer than the grace gives up nothing.
func TestDrainKeepsTheBacklogBeyondTheGrace(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "t", "u")
		publish(t, k.srv, "u", 1, "slow")
		publish(t, k.srv, "t", 1, numbers(1, 5)...)
		conn := k.connect(mqtt.WithSubscription("u"))
		conn.Subscription("u").Handle(func(mqtt.Message) { time.Sleep(time.Minute) })
		synctest.Wait()
		conn.Drain(t.Context())
		synctest.Wait() // let the server read it
		if n := len(k.ids(2, codec.PUBACK, 0)); n != 1 {
			t.Errorf("%d acknowledgements, want that of the slow one", n)
		}
	})
}

// What arrives for a filter being unsubscribed is never held, also what the server
// still has after UNSUBACK.
func TestUnsubscribedFilterHoldsNoBacklog(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		k := keepSession(t, v, "old/+", "t")
		publish(t, k.srv, "t", 1, numbers(1, 10)...)
		publish(t, k.srv, "old/x", 1, numbers(1, 50)...)
		publish(t, k.srv, "t", 1, "11")
		conn := k.connect()
		if _, err := conn.Unsubscribe(t.Context(), "old/+"); err != nil {
			t.Fatal(err)
		}
		expect(t, subscribe(t, conn, "t").C(), numbers(1, 11)...)
		k.allAcked()
		if s := conn.Stats(); s.Unmatched != 50 || s.Held != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A clean session, and one that the server does not have, hold nothing.
func TestOnlyAResumedSessionHasABacklog(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} { // 3.1 does not tell
		synctest.Test(t, func(t *testing.T) {
			s := script(t, v, mqtt.WithSession(time.Hour))
			s.message(0x32, 9, "t", "x")
			s.ExpectBytes(rawAck(0x40, 9))
			s.recut(connack(v, true))
			s.message(0x32, 9, "t", "x")
			s.message(0x30, 0, "t", "QoS 0 is never held")
			s.ExpectNothing(9 * time.Second)
			if st := s.conn.Stats(); st.Held != 1 || st.Unmatched != 2 {
				t.Errorf("%+v", st)
			}
			s.ExpectBytes(rawAck(0x40, 9))
			s.message(0x32, 10, "t", "the grace is over")
			s.ExpectBytes(rawAck(0x40, 10))
		})
	}
}

// The server lost the session while messages are held: this is their last copy,
// which a Subscribe still claims; its acknowledgement goes to no server.
func TestBacklogOfASessionLostMeanwhile(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour))
			s.message(0x32, 1, "t", "held")
			s.recut(connack(v, false))
			s.message(0x32, 1, "u", "new")
			s.ExpectBytes(rawAck(0x40, 1)) // not resumed: at once
			sub := s.subscribed("t", 1)
			expect(t, sub.C(), "held")
			s.ExpectNothing(time.Minute)
		})
	}
}

// WithBacklogGrace sets the time; negative holds nothing.
func TestBacklogGrace(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour), mqtt.WithBacklogGrace(time.Minute))
		s.message(0x32, 1, "t", "x")
		s.ExpectNothing(59 * time.Second)
		s.ExpectBytes(rawAck(0x40, 1))

		s = scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour), mqtt.WithBacklogGrace(-1))
		s.message(0x32, 1, "t", "x")
		s.ExpectBytes(rawAck(0x40, 1))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		cancel()
		if p := s.ExpectPacket(); p[0] != 0xA2 {
			t.Errorf("% X, want UNSUBSCRIBE", p)
		}
	})
}

// On 3.x the pending limit bounds what is held: beyond it the link is not read,
// so that the server keeps the rest; a Subscribe, or the end of the grace, goes on.
func TestPendingLimitBoundsTheBacklogOn3(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
		synctest.Test(t, func(t *testing.T) {
			k := keepSession(t, v, "big")
			k.srv.Change(func(c *server.Config) { c.Inflight = 1000 })
			payload := make([]byte, 1<<20)
			for range 70 {
				if err := k.srv.Publish("big", payload, 1, false); err != nil {
					t.Fatal(err)
				}
			}
			conn := k.connect(mqtt.WithStuckAfter(time.Second), mqtt.WithKeepAlive(time.Second))
			events := conn.Watch(t.Context())
			eventually(t, "paused", func() bool { return conn.Stats().Held == 64 })
			time.Sleep(8 * time.Second)
			if s := conn.Stats(); s.Held != 64 || s.Unmatched != 0 || s.Links != 1 {
				t.Errorf("%+v", s)
			}
			sub := subscribe(t, conn, "big")
			for range 70 {
				take(t, sub.C())
			}
			k.allAcked()
			if s := conn.Stats(); s.Links != 1 || s.Unmatched != 0 {
				t.Errorf("%+v", s)
			}
			conn.Close()
			for e := range events {
				if _, overdue := e.(mqtt.AckOverdue); overdue {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// A Subscribe may claim more than its pending limit: while it waits for SUBACK,
// which stands behind messages, the application cannot read, so that nothing counts against it.
func TestClaimOfTheBacklogBeyondThePendingLimit(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		for _, policy := range []mqtt.SlowPolicy{mqtt.SlowHold, mqtt.SlowEvict} {
			s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour), mqtt.WithStuckAfter(time.Second))
			for i := range uint16(10) {
				s.message(0x32, i+1, "t", fmt.Sprint(i+1))
			}
			subscribing := make(chan *mqtt.Subscription, 1)
			go func() {
				sub, err := s.conn.Subscribe(t.Context(), "t", mqtt.WithPendingLimit(5, 1000), mqtt.WithSlowPolicy(policy))
				if err != nil {
					t.Error(err)
				}
				subscribing <- sub
			}()
			p := s.ExpectPacket()
			s.message(0x32, 11, "t", "11")
			time.Sleep(5 * time.Second)
			s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
			expect(t, take(t, subscribing).C(), numbers(1, 11)...)
		}
	})
}

// AckOverdue names no subscription that does not exist, and still the one that does.
func TestAckOverdueLeavesOutTheBacklog(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour), mqtt.WithBacklogGrace(time.Hour),
			mqtt.WithSubscription("mine", mqtt.WithManualAck(), mqtt.WithImmediateDelivery()))
		s.suback(0x90, binary.BigEndian.Uint16(s.ExpectPacket()[2:]), 1)
		events := s.conn.Watch(t.Context())
		s.message(0x32, 1, "t", "held")
		time.Sleep(time.Minute)
		s.message(0x32, 2, "mine", "x")
		time.Sleep(time.Minute)
		if e := nextEvent[mqtt.AckOverdue](t, events); e.Filter != "mine" || e.PacketID != 2 {
			t.Errorf("%+v", e)
		}
		s.conn.Abort()
		for e := range events {
			if o, overdue := e.(mqtt.AckOverdue); overdue {
				t.Errorf("%+v", o)
			}
		}
	})
}

// What the server still sends for a filter that was removed while there was no link
// is not held either.
func TestFilterRemovedOfflineHoldsNoBacklog(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		sub := s.subscribed("t", 1)
		s.Cut()
		synctest.Wait()
		if err := sub.Unsubscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.next(connack(v, true))
		s.ExpectBytes(rawUnsubscribe(v, 2, "t"))
		s.suback(0xB0, 2, 0)
		s.message(0x32, 9, "t", "x")
		s.ExpectBytes(rawAck(0x40, 9))
	})
}
