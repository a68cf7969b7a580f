package mqtt_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// [MQTT-3.8.1-1] [MQTT-3.8.3-5] [MQTT-3.8.4-2] [MQTT-3.10.1-1] [MQTT-3.10.4-5]
func TestSubscribeOnTheWire(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/b", QoS: 1}, {Pattern: "c/d", QoS: 2}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectBytes(rawSubscribe(v, 1, 1, "a/b", 1, "c/d", 2))
		s.suback(0x90, 7, 1, 2) // of no subscription: counted and ignored
		select {
		case <-sub.Ready():
			t.Fatal("ready by a SUBACK of another exchange")
		default:
		}
		s.suback(0x90, 1, 1, 0)
		<-sub.Ready()
		want := []mqtt.SubscribeResult{{Filter: "a/b", Granted: 1, Code: 1}, {Filter: "c/d", Granted: 0, Code: 0}}
		if got := sub.Results(); !slices.Equal(got, want) {
			t.Errorf("results %v, want %v", got, want)
		}
		if n := s.conn.Stats().IgnoredAcks; n != 1 {
			t.Errorf("%d acknowledgements ignored", n)
		}
		done := make(chan error)
		go func() { done <- sub.Unsubscribe(t.Context()) }()
		s.ExpectBytes(rawUnsubscribe(v, 2, "a/b", "c/d"))
		s.suback(0xB0, 2, 0, 0x11)
		if err := <-done; err != nil {
			t.Errorf("Unsubscribe: %v", err) // 0x11 is success
		}
		if !errors.Is(sub.Err(), mqtt.ErrUnsubscribed) {
			t.Errorf("Err is %v", sub.Err())
		}
	})
}

// [MQTT-3.8.3-5]: every combination of options.
func TestSubscribeOptionsOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		n := 0
		for qos := range 3 {
			for _, noLocal := range []bool{false, true} {
				for _, asPub := range []bool{false, true} {
					for retain := range 3 {
						n++
						opts := []mqtt.SubscribeOption{mqtt.QoS(qos), mqtt.WithRetainHandling(byte(retain)), mqtt.WithoutWaiting()}
						options := qos | retain<<4
						if noLocal {
							opts, options = append(opts, mqtt.WithNoLocal()), options|4
						}
						if asPub {
							opts, options = append(opts, mqtt.WithRetainAsPublished()), options|8
						}
						subscribe(t, s.conn, "t/"+string(rune('@'+n)), opts...)
						s.ExpectBytes(rawSubscribe(mqtt.V5, uint16(n), byte(n), "t/"+string(rune('@'+n)), options))
					}
				}
			}
		}
	})
}

// [MQTT-3.8.3-1] [MQTT-3.8.3-2] [MQTT-3.8.3-4] [MQTT-3.8.3-5] [MQTT-3.10.3-1]
// [MQTT-3.10.3-2] [MQTT-4.8.2-1]
func TestBadSubscribeIsRefusedBeforeIO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		for _, c := range []struct {
			name   string
			filter string
			opts   []mqtt.SubscribeOption
		}{
			{"empty", "", nil},
			{"hash inside", "a/#/b", nil},
			{"hash at the end of a level", "a#", nil},
			{"plus inside a level", "a+/b", nil},
			{"NUL", "a\x00b", nil},
			{"bad UTF-8", "a\xff", nil},
			{"surrogate", "a\xed\xa0\x80", nil},
			{"too long", strings.Repeat("x", 65536), nil},
			{"share without a name", "$share//x", nil},
			{"share without a filter", "$share/g", nil},
			{"share with an empty filter", "$share/g/", nil},
			{"share with a wildcard in its name", "$share/g+/x", nil},
			{"No Local on shared", "$share/g/t", []mqtt.SubscribeOption{mqtt.WithNoLocal()}},
			{"QoS 3", "t", []mqtt.SubscribeOption{mqtt.QoS(3)}},
			{"retain handling 3", "t", []mqtt.SubscribeOption{mqtt.WithRetainHandling(3)}},
			{"unknown slow policy", "t", []mqtt.SubscribeOption{mqtt.WithSlowPolicy(99)}},
		} {
			_, err := s.conn.Subscribe(t.Context(), c.filter, c.opts...)
			if !errors.Is(err, mqtt.ErrInvalid) {
				t.Errorf("%s: %v", c.name, err)
			}
			if len(c.opts) > 0 {
				continue
			}
			if _, err := s.conn.Unsubscribe(t.Context(), c.filter); !errors.Is(err, mqtt.ErrInvalid) {
				t.Errorf("unsubscribe, %s: %v", c.name, err)
			}
		}
		if _, err := s.conn.SubscribeMany(t.Context(), nil); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("no filter: %v", err)
		}
		if _, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a"}, {Pattern: "a", QoS: 1}}); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("twice: %v", err)
		}
		if _, err := s.conn.Unsubscribe(t.Context()); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("unsubscribe of nothing: %v", err)
		}
		sub := subscribe(t, s.conn, "t", mqtt.WithoutWaiting())
		if err := sub.Handle(nil); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("no handler: %v", err)
		}
		s.ExpectBytes(rawSubscribe(mqtt.V5, 1, 1, "t", 1)) // no identifier was taken
		s.ExpectNothing(time.Second)
	})
}

// What an older version or this server cannot carry is a typed error.
func TestSubscribeThatTheServerCannotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := script(t, mqtt.V311)
		if _, err := old.conn.Subscribe(t.Context(), "t", mqtt.WithNoLocal()); !errors.Is(err, mqtt.ErrNotSupported) {
			t.Errorf("No Local on 3.1.1: %v", err)
		}
		// No wildcards, no shared subscriptions, at most 30 bytes.
		s := scriptWith(t, mqtt.V5, "20 0C 00 00 09 28 00 2A 00 27 0000001E")
		for _, f := range []string{"a/+", "#", "$share/g/t"} {
			if _, err := s.conn.Subscribe(t.Context(), f); !errors.Is(err, mqtt.ErrNotSupported) {
				t.Errorf("%s: %v", f, err)
			}
		}
		_, err := s.conn.Subscribe(t.Context(), strings.Repeat("x", 21))
		if e, ok := errors.AsType[*mqtt.PacketTooLargeError](err); !ok || e.Size != 31 || e.Max != 30 {
			t.Errorf("too long for the server: %v", err)
		}
		s.ExpectNothing(time.Second)
		sub := subscribe(t, s.conn, strings.Repeat("x", 20), mqtt.WithoutWaiting())
		if n := len(s.ExpectPacket()); n != 30 {
			t.Errorf("%d bytes", n)
		}
		s.suback(0x90, 1, 1)
		<-sub.Ready()
	})
}

// A subscription made offline that the server of the next link cannot carry ends
// with the reason and is never sent without what makes it special.
func TestSubscribeOfflineThatTheNextLinkCannotCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		events := s.conn.Watch(t.Context())
		s.Cut()
		synctest.Wait()
		sub := subscribe(t, s.conn, "t", mqtt.WithNoLocal(), mqtt.WithoutWaiting())
		s.next(connack(mqtt.V311, false))
		<-sub.Done()
		if !errors.Is(sub.Err(), mqtt.ErrNotSupported) {
			t.Errorf("Err is %v", sub.Err())
		}
		if e := nextEvent[mqtt.SubscriptionLost](t, events); e.Filter != "t" || !errors.Is(e.Err, mqtt.ErrNotSupported) {
			t.Errorf("event %+v", e)
		}
		s.ExpectNothing(time.Second)
	})
}

// A refused subscription is a typed error, and is not tried again.
func TestRefusedSubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{OnSubscribe: func(_ string, s codec.Subscription) codec.ReasonCode {
			if s.Filter == "secret" {
				return codec.NotAuthorized
			}
			return codec.ReasonCode(s.QoS)
		}}, mqtt.WithSession(time.Hour))
		_, err := conn.Subscribe(t.Context(), "secret")
		e, ok := errors.AsType[*mqtt.SubscribeError](err)
		if !ok || len(e.Results) != 1 || e.Results[0].Filter != "secret" {
			t.Fatalf("error %v", err)
		}
		want := codec.NotAuthorized
		if v != mqtt.V5 {
			want = codec.UnspecifiedError
		}
		if r, ok := errors.AsType[*mqtt.ReasonError](err); !ok || r.Code != want || r.Packet != codec.SUBACK {
			t.Errorf("error %v", err)
		}
		if v == mqtt.V5 && !errors.Is(err, mqtt.ErrNotAuthorized) {
			t.Errorf("error %v is not ErrNotAuthorized", err)
		}
		srv.DropSession("c")
		eventually(t, "reconnect", func() bool { return conn.State() == mqtt.StateConnected })
		time.Sleep(time.Minute)
		if got := srv.Stats().Packets[codec.SUBSCRIBE]; got != 1 {
			t.Errorf("%d SUBSCRIBEs, want one", got)
		}
	})
}

// Reason string and user properties of the refusal.
func TestRefusedSubscribeHasTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		sub := subscribe(t, s.conn, "t", mqtt.WithoutWaiting())
		s.ExpectPacket()
		s.Send("90 13 0001 0F 1F 0005 6661696C65 26 0001 6B 0001 76 87") // "faile", k=v
		<-sub.Done()
		r, ok := errors.AsType[*mqtt.ReasonError](sub.Err())
		if !ok || r.Reason != "faile" || len(r.User) != 1 || r.User[0].Key != "k" {
			t.Errorf("error %#v", sub.Err())
		}
		if _, open := <-sub.C(); open {
			t.Error("the channel of a refused subscription is open")
		}
	})
}

// Several filters, one refused.
func TestOneOfSeveralFiltersRefused(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{OnSubscribe: func(_ string, s codec.Subscription) codec.ReasonCode {
			if s.Filter == "b" {
				return codec.NotAuthorized
			}
			return codec.ReasonCode(s.QoS)
		}})
		filters := []mqtt.Filter{{Pattern: "a"}, {Pattern: "b", QoS: 1}, {Pattern: "c", QoS: 2}}
		_, err := conn.SubscribeMany(t.Context(), filters)
		e, ok := errors.AsType[*mqtt.SubscribeError](err)
		if !ok || len(e.Results) != 3 || e.Results[0].Err != nil || e.Results[1].Err == nil || e.Results[2].Granted != 2 {
			t.Fatalf("error %v", err)
		}
		eventually(t, "the granted ones are unsubscribed", func() bool { return len(held(srv)) == 0 })

		sub, err := conn.SubscribeMany(t.Context(), filters, mqtt.WithPartialSuccess())
		if err != nil {
			t.Fatal(err)
		}
		if r := sub.Results(); r[1].Err == nil || r[0].Err != nil || r[2].Err != nil {
			t.Errorf("results %v", r)
		}
		if got := held(srv); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("the server holds %v", got)
		}
		publish(t, srv, "a", 1, "x")
		expect(t, sub.C(), "x")
	})
}

// QoS 2 may be asked for whatever the server publishes at; the grant is told.
func TestLowerQoSGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, "20 05 00 00 02 24 00") // Maximum QoS 0
		sub := subscribe(t, s.conn, "t", mqtt.QoS(2), mqtt.WithoutWaiting())
		s.ExpectBytes(rawSubscribe(mqtt.V5, 1, 1, "t", 2))
		s.suback(0x90, 1, 1)
		<-sub.Ready()
		if sub.Granted() != 1 {
			t.Errorf("granted %d", sub.Granted())
		}
	})
}

// Refused on a later resubscribe, the subscription ends with that error.
func TestRefusedOnResubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		events := conn.Watch(t.Context())
		lives, dies := subscribe(t, conn, "lives"), subscribe(t, conn, "dies")
		srv.Change(func(c *server.Config) {
			c.OnSubscribe = func(_ string, s codec.Subscription) codec.ReasonCode {
				if s.Filter == "dies" {
					return codec.NotAuthorized
				}
				return codec.ReasonCode(s.QoS)
			}
		})
		srv.Cut("c")
		<-dies.Done()
		if _, ok := errors.AsType[*mqtt.SubscribeError](dies.Err()); !ok {
			t.Errorf("Err is %v", dies.Err())
		}
		if e := nextEvent[mqtt.SubscriptionLost](t, events); e.Filter != "dies" {
			t.Errorf("event %+v", e)
		}
		drainClosed(t, dies.C())
		publish(t, srv, "lives", 1, "x")
		expect(t, lives.C(), "x")
		n := srv.Stats().Packets[codec.SUBSCRIBE]
		srv.Cut("c")
		time.Sleep(time.Minute)
		if got := srv.Stats().Packets[codec.SUBSCRIBE]; got != n+1 {
			t.Errorf("%d SUBSCRIBEs on the third link, want one", got-n)
		}
	})
}

// [MQTT-3.8.4-6]: a SUBACK with the wrong count is a protocol error, an
// UNSUBACK too on 5.0 [MQTT-3.11.3-1].
func TestSubackWithTheWrongNumberOfCodes(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		events := s.conn.Watch(t.Context())
		sub := subscribe(t, s.conn, "a", mqtt.WithoutWaiting())
		s.ExpectPacket()
		s.suback(0x90, 1, 1, 1)
		if v == mqtt.V5 {
			s.Expect("E0 01 82")
		}
		s.ExpectEOF()
		if e, ok := errors.AsType[*mqtt.ProtocolError](nextEvent[mqtt.Disconnected](t, events).Err); !ok || e.Code != codec.ProtocolError {
			t.Errorf("the link ended with %v", e)
		}
		s.next(connack(v, false))
		s.ExpectPacket() // the subscription is asked for again
		s.suback(0x90, 2, 1)
		<-sub.Ready()
		if v != mqtt.V5 {
			return
		}
		go sub.Unsubscribe(t.Context())
		s.ExpectPacket()
		s.suback(0xB0, 3)
		s.Expect("E0 01 82")
		s.ExpectEOF()
	})
}

// [MQTT-3.10.4-5]: an UNSUBACK that comes with the end of its link.
func TestUnsubackWithTheEndOfTheLink(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		for i := range 20 {
			sub := s.subscribed("a", 1)
			done := make(chan error, 1)
			go func() { done <- sub.Unsubscribe(t.Context()) }()
			p := s.ExpectPacket()
			b := []byte{0xB0, 2, p[2], p[3]}
			if v == mqtt.V5 {
				b = []byte{0xB0, 4, p[2], p[3], 0, 0x87}
			}
			s.SendBytes(b)
			s.Wire.Close()
			err := <-done
			if r, ok := errors.AsType[*mqtt.ReasonError](err); err != nil && (!ok || r.Packet != codec.UNSUBACK) {
				t.Fatalf("round %d: %v", i, err)
			}
			s.next(connack(v, false))
		}
	})
}

// Subscribe waits for its answer at most WithSubscribeTimeout, counted while a link
// is up, over all links; offline the context alone bounds it.
func TestSubscribeTimeout(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSubscribeTimeout(5*time.Second))
		began := time.Now()
		done := make(chan error, 1)
		go func() { _, err := s.conn.Subscribe(t.Context(), "a"); done <- err }()
		s.ExpectPacket()
		time.Sleep(3 * time.Second)
		s.Cut()
		synctest.Wait()
		s.next(connack(v, false)) // after a second offline
		s.ExpectPacket()
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 6*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if p := s.ExpectPacket(); p[0] != 0xA2 {
			t.Errorf("got % X, want UNSUBSCRIBE", p)
		}
		s.Cut()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.conn.Subscribe(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("offline: %v", err)
		}
	})
}

// No SUBACK on resubscribe ends the link, for declared subscriptions too.
func TestNoSubackOnResubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSubscription("a"), mqtt.WithSubscribeTimeout(5*time.Second))
		events := s.conn.Watch(t.Context())
		s.ExpectPacket()
		if err := nextEvent[mqtt.Disconnected](t, events).Err; err == nil || !strings.Contains(err.Error(), "SUBACK") {
			t.Errorf("the link ended with %v", err)
		}
	})
}
