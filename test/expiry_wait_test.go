package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// of is a message on topic t that expires.
func of(payload string, qos mqtt.QoS, expiry time.Duration) mqtt.Message {
	return mqtt.Message{Topic: "t", Payload: []byte(payload), QoS: qos, Properties: &mqtt.Properties{Expiry: expiry}}
}

// expiresIn fails the test unless f fails with ErrExpired within a second of d.
func expiresIn(t *testing.T, f *mqtt.Future, d time.Duration) {
	t.Helper()
	began := time.Now()
	err := outcome(t, f)
	p, ok := errors.AsType[*mqtt.PublishError](err)
	if !errors.Is(err, mqtt.ErrExpired) || !ok || p.MayHaveArrived || p.Kept {
		t.Errorf("%v", err)
	}
	if late := time.Since(began) - d; late < 0 || late > time.Second {
		t.Errorf("it expired after %v, want %v", time.Since(began), d)
	}
}

// A message whose expiry ends while it waits fails then, and not when a link comes
// or its turn does: its sender may be waiting for it.
func TestWaitingMessagesExpireInTime(t *testing.T) {
	for name, wait := range map[string]func(t *testing.T) *scripted{
		"without a link": func(t *testing.T) *scripted {
			s := script(t, mqtt.V5, mqtt.WithQueuedQoS0())
			s.net.RefuseDials(-1, nil)
			s.Cut()
			synctest.Wait()
			return s
		},
		"behind a full window": func(t *testing.T) *scripted {
			s := script(t, mqtt.V5, mqtt.WithMaxInflight(1))
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.ExpectPacket()
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := wait(t)
				later := s.conn.Publish(t.Context(), of("later", 2, time.Minute))
				expiresIn(t, s.conn.Publish(t.Context(), of("x", 1, 5*time.Second)), 5*time.Second)
				expiresIn(t, s.conn.Publish(t.Context(), of("x", 2, 300*time.Millisecond)), 300*time.Millisecond)
				if name == "without a link" {
					expiresIn(t, s.conn.Publish(t.Context(), of("x", 0, 5*time.Second)), 5*time.Second)
				}
				pending(t, later)
			})
		})
	}
}

// So does one that waits for a place in the queue: Publish returns.
func TestExpiryEndsTheWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithQueue(1, 0, mqtt.QueueWait))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.ExpectPacket()
		began := time.Now()
		f := s.conn.Publish(t.Context(), of("x", 1, 5*time.Second))
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("Publish took %v", took)
		}
		if err := outcome(t, f); !errors.Is(err, mqtt.ErrExpired) {
			t.Error(err)
		}
		if st := s.conn.Stats(); st.Queued != 1 {
			t.Errorf("%d in the queue, want 1", st.Queued)
		}
	})
}

// What fails so is out of the session store, so that no later process sends it; what
// has its packet identifier there makes room for it in its place.
func TestStoredMessagesExpireInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s, _ := waiting(t) // "b", which has its identifier, expires after a second
		s.conn.Publish(t.Context(), of("d", 1, 5*time.Second))
		expiresIn(t, s.conn.Lookup("b"), time.Second)
		s.offline()
		f := s.conn.Publish(t.Context(), of("e", 2, 5*time.Second))
		expiresIn(t, f, 5*time.Second)
		s.crash()
		s = d.script(t, mqtt.V5, true, mqtt.WithMaxInflight(1))
		s.expectPublish(0x3A, 1, "t", "a")
		s.sendAck(0x40, 1)
		p := s.ExpectPacket()
		if string(p[len(p)-1]) != "c" {
			t.Errorf("sent % X", p)
		}
		s.sendAck(0x40, uint16(p[6]))
		s.ExpectNothing(time.Minute)
		s.closeEmpty(d)
	})
}

// What was sent is the server's to keep: it is sent again, and resolves by the answer.
func TestSentMessagesDoNotExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), of("x", 1, 2*time.Second))
		s.ExpectPacket()
		time.Sleep(time.Minute)
		s.Cut()
		s.next(server.ConnackPresent)
		s.Expect("3A 0C 0001 74 0001 05 02 00000001 78")
		pending(t, f)
		s.sendAck(0x40, 1)
		succeeded(t, f)
	})
}

// 3.x has no expiry: there it is a time to live until the message is sent, which is
// told once. Other properties are refused as ever.
func TestExpiryOn3xEndsWithSending(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, v, mqtt.WithMaxInflight(1))
				first := s.conn.Publish(t.Context(), of("a", 1, time.Minute))
				s.expectPublish(0x32, 1, "t", "a")
				s.conn.Publish(t.Context(), of("b", 0, time.Minute))
				s.expectPublish(0x30, 0, "t", "b")
				if evs := told[mqtt.Downgraded](s.conn); len(evs) != 1 || evs[0].What != "message expiry" || evs[0].To != v.String() {
					t.Errorf("told %+v", evs)
				}
				late := s.conn.Publish(t.Context(), of("c", 2, 5*time.Second))
				expiresIn(t, late, 5*time.Second)
				m := of("d", 1, time.Minute)
				m.Properties.Key = "k"
				keyed := s.conn.Publish(t.Context(), m)
				s.sendAck(0x40, 1)
				s.expectPublish(0x32, 2, "t", "d")
				s.sendAck(0x40, 2)
				succeeded(t, first)
				succeeded(t, keyed)
				if evs := told[mqtt.Downgraded](s.conn); len(evs) != 0 {
					t.Errorf("told again: %+v", evs)
				}
				m.Properties.ContentType = "text/plain"
				if err := outcome(t, s.conn.Publish(t.Context(), m)); !errors.Is(err, mqtt.ErrNotSupported) {
					t.Errorf("with another property: %v", err)
				}
			})
		})
	}
}

// What was queued for 5.0 goes to a server that speaks 3.1.1 alone, and expires here.
func TestExpiryOverADowngrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := dial(t, mqtt.WithVersions(mqtt.V5, mqtt.V311), mqtt.WithFirstConnect(mqtt.FirstConnectBackground))
		short := x.conn.Publish(t.Context(), of("short", 1, time.Second))
		long := x.conn.Publish(t.Context(), of("long", 1, time.Minute))
		m := of("typed", 1, time.Minute)
		m.Properties.ContentType = "text/plain"
		typed := x.conn.Publish(t.Context(), m)
		expiresIn(t, short, time.Second)
		w := x.Accept(t.Context())
		w.ExpectPacket()
		w.Send("20 02 00 01") // unacceptable protocol version
		w.ExpectEOF()
		w = x.up("20 02 00 00")
		w.ExpectBytes(rawPublish(mqtt.V311, 0x32, 1, "t", "long"))
		w.SendBytes(rawAck(0x40, 1))
		succeeded(t, long)
		if err := outcome(t, typed); !errors.Is(err, mqtt.ErrNotSupported) {
			t.Errorf("with another property: %v", err)
		}
		evs := told[mqtt.Downgraded](x.conn)
		if len(evs) != 2 || evs[0].What != "protocol version" && evs[1].What != "protocol version" {
			t.Errorf("told %+v", evs)
		}
	})
}
