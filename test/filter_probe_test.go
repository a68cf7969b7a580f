package mqtt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// flaps makes the next link probe: two that die young.
func (s *scripted) flaps(present bool) {
	s.t.Helper()
	for range 2 {
		s.Cut()
		s.next(connack(s.v, present))
	}
}

// A link that probes carries nothing of the application for a second, then one filter
// a packet, each after the answer to the one before, then one publish at a time, with
// what the application asks for meanwhile behind it.
func TestProbingLinkSendsOnePacketAtATime(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithQueuedQoS0())
		s.subscribed("a", 1)
		s.subscribed("b", 1)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		s.ExpectPacket()
		s.ExpectPacket()
		s.flaps(false)
		go s.conn.Publish(t.Context(), mqtt.Message{Topic: "zero"})
		go s.conn.Subscribe(t.Context(), "c", mqtt.WithoutWaiting())
		s.message(0x32, 9, "nothing", "x")
		s.ExpectBytes(rawAck(0x40, 9)) // owed, not of the application
		s.ExpectNothing(990 * time.Millisecond)
		for _, filter := range []string{"a", "b", "c"} {
			p := s.ExpectPacket()
			if p[0] != 0x82 || !bytes.Contains(p, []byte{0, 1, filter[0]}) || bytes.Count(p, []byte{0, 1}) > 2 {
				t.Fatalf("got % X, want SUBSCRIBE of %q alone", p, filter)
			}
			s.ExpectNothing(300 * time.Millisecond)
			s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
		}
		s.expectPublish(0x30, 0, "zero", "")
		first := s.ExpectPacket()
		if first[0]&0xF6 != 0x32 {
			t.Fatalf("got % X, want the first PUBLISH", first)
		}
		go s.conn.Subscribe(t.Context(), "d", mqtt.WithoutWaiting())
		s.ExpectNothing(time.Second)
		s.sendAck(0x40, binary.BigEndian.Uint16(first[5:]))
		p := s.ExpectPacket()
		if p[0] != 0x82 || !bytes.Contains(p, []byte("d")) {
			t.Fatalf("got % X, want the SUBSCRIBE that came meanwhile", p)
		}
		s.ExpectNothing(300 * time.Millisecond)
		s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
		if p := s.ExpectPacket(); p[0]&0xF6 != 0x32 {
			t.Fatalf("got % X, want the second PUBLISH", p)
		}
	})
}

// A filter whose link dies long after its SUBSCRIBE, or right behind its SUBACK, is
// innocent, however often that happens.
func TestSlowAnswersAccuseNoFilter(t *testing.T) {
	for _, answered := range []bool{false, true} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			s := script(t, v)
			sub := s.subscribed("a", 1)
			for range 5 {
				s.flaps(false)
				p := s.ExpectPacket()
				if answered {
					s.SendBytes(rawSuback(v, binary.BigEndian.Uint16(p[2:])))
				} else {
					time.Sleep(1100 * time.Millisecond)
				}
				s.Cut()
				s.next(connack(v, false))
			}
			if sub.Err() != nil {
				t.Error(sub.Err())
			}
			if evs := told[mqtt.FilterSetAside](s.conn); len(evs) > 0 {
				t.Errorf("set aside: %+v", evs)
			}
		})
	}
}

// rawSuback grants QoS 1 to a SUBSCRIBE of one filter.
func rawSuback(v mqtt.Version, id uint16) []byte {
	if v == mqtt.V5 {
		return []byte{0x90, 4, byte(id >> 8), byte(id), 0, 1}
	}
	return []byte{0x90, 3, byte(id >> 8), byte(id), 1}
}

// Three deaths accuse a filter in a row only: another packet answered in between, or
// dying in its place, begins the count anew.
func TestOnlyDeathsInARowAccuseAFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		a, b := s.subscribed("a", 1), s.subscribed("b", 1)
		s.flaps(false)
		for n := range 12 {
			p := s.ExpectPacket()
			if n%3 == 2 { // this time it gets through, and the next one dies
				s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
				s.ExpectPacket()
			}
			s.Cut()
			s.next(connack(mqtt.V311, false))
		}
		if a.Err() != nil || b.Err() != nil {
			t.Errorf("%v, %v", a.Err(), b.Err())
		}
	})
}

// An answer that never comes holds up what waits behind it for a while only, and
// nothing is accused then.
func TestProbingLinkGoesOnWithoutAnAnswer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		s.subscribed("a", 1)
		fut := s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		s.ExpectPacket()
		s.flaps(false)
		s.ExpectPacket()
		s.ExpectNothing(4 * time.Second)
		p := s.ExpectPacket()
		if p[0]&0xF6 != 0x32 {
			t.Fatalf("got % X, want the PUBLISH", p)
		}
		go s.conn.Subscribe(t.Context(), "b", mqtt.WithoutWaiting())
		s.ExpectNothing(4 * time.Second)
		if p := s.ExpectPacket(); p[0] != 0x82 {
			t.Fatalf("got % X, want the second SUBSCRIBE", p)
		}
		s.sendAck(0x40, binary.BigEndian.Uint16(p[5:]))
		succeeded(t, fut)
	})
}

// In a session that is kept a link that probes asks for what the server does not have,
// and for nothing else.
func TestProbingLinkAsksForWhatIsMissing(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, v, mqtt.WithSession(time.Hour))
			s.subscribed("granted", 1)
			gone := s.subscribed("gone", 1)
			time.Sleep(2 * time.Second)
			subscribe(t, s.conn, "missing", mqtt.WithoutWaiting())
			s.ExpectPacket()
			go gone.Unsubscribe(t.Context())
			s.ExpectPacket()
			s.flaps(true)
			s.Cut()
			s.next(connack(v, true))
			s.ExpectNothing(990 * time.Millisecond)
			p := s.ExpectPacket()
			if p[0] != 0xA2 || !bytes.Contains(p, []byte("gone")) {
				t.Fatalf("got % X, want UNSUBSCRIBE", p)
			}
			s.suback(0xB0, binary.BigEndian.Uint16(p[2:]), 0)
			p = s.ExpectPacket()
			if p[0] != 0x82 || !bytes.Contains(p, []byte("missing")) {
				t.Fatalf("got % X, want SUBSCRIBE", p)
			}
			s.suback(0x90, binary.BigEndian.Uint16(p[2:]), 1)
			s.ExpectNothing(time.Minute)
		})
	}
}

// Close during the quiet of a link that probes does not lose what is pending.
func TestCloseOnAProbingLinkSendsWhatIsPending(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		s.flaps(false)
		fut := s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		closed := make(chan error, 1)
		go func() { closed <- s.conn.Close() }()
		p := s.ExpectPacket()
		s.sendAck(0x40, binary.BigEndian.Uint16(p[5:]))
		succeeded(t, fut)
		if err := take(t, closed); err != nil {
			t.Error(err)
		}
	})
}

// A SUBSCRIBE that is never answered on a link that probes holds publishes of each QoS
// and further SUBSCRIBEs up once, not again for each packet.
func TestMuteSubscribeHoldsAProbingLinkUpOnce(t *testing.T) {
	for qos := range mqtt.QoS(3) {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
			time.Sleep(time.Minute)
			srv.Change(func(cfg *server.Config) {
				cfg.OnPacket = func(id string, p server.Packet) bool {
					if p.Type == codec.PUBLISH && conn.Stats().Links <= 3 {
						srv.Cut(id)
						return true
					}
					return p.Type == codec.SUBSCRIBE && bytes.Contains(p.Body, []byte("mute"))
				}
			})
			var futs []*mqtt.Future
			for range 20 {
				futs = append(futs, conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: max(qos, 1)}))
			}
			if qos == 0 {
				time.Sleep(time.Second)
				futs = append(futs, conn.Publish(t.Context(), mqtt.Message{Topic: "t"}))
			}
			began := time.Now()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go conn.Subscribe(ctx, "mute/#")
			for i := range 5 {
				go conn.Subscribe(ctx, fmt.Sprintf("good/%d", i))
			}
			for _, f := range futs {
				<-f.Done()
			}
			eventually(t, "the others are subscribed", func() bool { return len(held(srv)) == 5 })
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// A server that dies of a PUBREL, some time after the link began, accuses no SUBSCRIBE
// that is unanswered meanwhile.
func TestUnansweredPubrelAccusesNoFilter(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour))
		w := d.up(connack(v, false))
		go d.conn.Subscribe(t.Context(), "innocent")
		w.ExpectPacket()
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		p := w.ExpectPacket()
		w.SendBytes(rawAck(0x50, binary.BigEndian.Uint16(p[5:]))) // PUBREC; the SUBSCRIBE is unanswered
		time.Sleep(500 * time.Millisecond)
		w.Cut()
		for i := range 8 {
			w = d.up(connack(v, true))
			life := 500 * time.Millisecond
			if i > 0 {
				life = 1300 * time.Millisecond // it takes longer by then
			}
			time.Sleep(life)
			w.Cut()
		}
		if evs := told[mqtt.FilterSetAside](d.conn); len(evs) > 0 {
			t.Errorf("set aside: %+v", evs)
		}
	})
}
