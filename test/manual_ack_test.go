package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// fiveMessages sends five QoS 1 messages and takes them.
func fiveMessages(t *testing.T, s *scripted, sub *mqtt.Subscription) (msgs []mqtt.Message) {
	for i := range uint16(5) {
		s.message(0x32, 10+i, "t", string(rune('1'+i)))
		msgs = append(msgs, take(t, sub.C()))
	}
	return msgs
}

// [MQTT-4.6.0-2]: acked 5, 4, 3, 2, 1, they leave as 1 to 5.
func TestAcksLeaveInOrderOfArrival(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		msgs := fiveMessages(t, s, s.subscribed("t", 1, mqtt.WithManualAck()))
		for i := 4; i > 0; i-- {
			if err := msgs[i].Ack(); err != nil {
				t.Error(err)
			}
		}
		s.ExpectNothing(time.Second)
		if err := msgs[0].Ack(); err != nil {
			t.Error(err)
		}
		for i := range uint16(5) {
			s.ExpectBytes(rawAck(0x40, 10+i))
		}
		if err := msgs[2].Ack(); !errors.Is(err, mqtt.ErrAcked) || !errors.Is(err, mqtt.ErrStale) {
			t.Errorf("a second Ack: %v", err)
		}
		if err := (mqtt.Message{Topic: "t", QoS: 1}).Ack(); !errors.Is(err, mqtt.ErrNotReceived) {
			t.Errorf("Ack of a message of ours: %v", err)
		}
		s.message(0x30, 0, "t", "0")
		s.ExpectNothing(time.Second)
	})
}

// PUBREC has an order of its own [MQTT-4.6.0-3].
func TestPubacksAndPubrecsHaveOrdersOfTheirOwn(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 2, mqtt.WithManualAck())
		s.message(0x32, 1, "t", "a")
		s.message(0x34, 2, "t", "b")
		s.message(0x34, 3, "t", "c")
		a, b, c := take(t, sub.C()), take(t, sub.C()), take(t, sub.C())
		c.Ack()
		s.ExpectNothing(time.Second)
		b.Ack()
		s.ExpectBytes(rawAck(0x50, 2))
		s.ExpectBytes(rawAck(0x50, 3))
		s.release(2)
		a.Ack()
		s.ExpectBytes(rawAck(0x40, 1))
	})
}

// Un-acked when the link died; its redelivery is recognised and one ack leaves,
// whether the user acked before, between or after.
func TestUnackedRedeliveryOnTheNextLink(t *testing.T) {
	for _, when := range []string{"while the link is down", "after CONNACK", "after the redelivery"} {
		t.Run(when, func(t *testing.T) {
			for _, qos := range []byte{1, 2} {
				inEachVersion(t, func(t *testing.T, v mqtt.Version) {
					s := script(t, v, mqtt.WithSession(time.Hour))
					sub := s.subscribed("t", 2, mqtt.WithManualAck())
					s.message(0x30|qos<<1, 9, "t", "x")
					m := take(t, sub.C())
					ack := func(at string) {
						if when == at {
							if err := m.Ack(); err != nil {
								t.Errorf("Ack: %v", err)
							}
							synctest.Wait()
						}
					}
					s.Cut()
					synctest.Wait()
					ack("while the link is down")
					s.next(connack(v, true))
					if v == mqtt.V31 {
						s.ExpectPacket() // subscribes again: it cannot tell
					}
					ack("after CONNACK")
					s.ExpectNothing(time.Second)
					s.message(0x38|qos<<1, 9, "t", "x")
					ack("after the redelivery")
					s.ExpectBytes(rawAck(0x30+0x10*qos, 9))
					if qos == 2 {
						s.release(9)
					}
					s.ExpectNothing(time.Second)
					idle(t, sub.C())
					if n := s.conn.Stats().Redelivered; n != 1 {
						t.Errorf("%d redelivered", n)
					}
				})
			}
		})
	}
}

// When the session was lost, Ack says stale and nothing is written.
func TestAckIsStaleAfterALostSession(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1, mqtt.WithManualAck())
		s.message(0x32, 9, "t", "x")
		m := take(t, sub.C())
		s.Cut()
		s.next(connack(v, false))
		s.ExpectPacket()
		if err := m.Ack(); !errors.Is(err, mqtt.ErrStale) || errors.Is(err, mqtt.ErrAcked) {
			t.Errorf("Ack: %v", err)
		}
		s.ExpectNothing(time.Second)
		s.message(0x32, 9, "t", "x") // new in the new session
		if err := take(t, sub.C()).Ack(); err != nil {
			t.Error(err)
		}
		s.ExpectBytes(rawAck(0x40, 9))
	})
}

// A redelivery on the live link is not delivered twice and takes no second
// place in our Receive Maximum.
func TestUnackedRedeliveryOnTheLiveLink(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithReceiveMaximum(2))
		sub := s.subscribed("t", 1, mqtt.WithManualAck())
		s.message(0x32, 9, "t", "x")
		for range 5 {
			s.message(0x3A, 9, "t", "x")
		}
		s.message(0x32, 10, "t", "y")
		m := take(t, sub.C())
		expect(t, sub.C(), "y")
		m.Ack()
		s.ExpectBytes(rawAck(0x40, 9))
		s.ExpectNothing(time.Second)
		if st := s.conn.Stats(); st.Redelivered != 5 || st.AcksOwed != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Another message with the identifier is new, and the old entry stale.
func TestAnotherMessageWithTheIdentifier(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1, mqtt.WithManualAck())
		s.message(0x32, 9, "t", "x")
		old := take(t, sub.C())
		s.message(0x3A, 9, "t", "another")
		m := take(t, sub.C())
		if string(m.Payload) != "another" || !m.Dup() {
			t.Errorf("got %q", m.Payload)
		}
		if err := old.Ack(); !errors.Is(err, mqtt.ErrStale) {
			t.Errorf("Ack of the old: %v", err)
		}
		s.ExpectNothing(time.Second)
		m.Ack()
		s.ExpectBytes(rawAck(0x40, 9))
	})
}

// [MQTT-3.3.4-9]: more than our Receive Maximum closes the link with 0x93.
func TestReceiveMaximumExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithReceiveMaximum(2))
		s.subscribed("t", 1, mqtt.WithManualAck())
		for i := range uint16(3) {
			s.message(0x32, 9+i, "t", "x")
		}
		s.Expect("E0 01 93")
		s.ExpectEOF()
	})
}

// Two subscribers of one message: it is acked once, after both.
func TestAckedOnceAfterBothSubscribers(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		one, two := s.subscribed("t", 1, mqtt.WithManualAck()), s.subscribed("t/#", 1, mqtt.WithManualAck())
		s.message(0x32, 9, "t", "x", 1, 2)
		a, b := take(t, one.C()), take(t, two.C())
		a.Payload[0] = 'y'
		if string(b.Payload) != "x" {
			t.Error("the two share their bytes")
		}
		a.Ack()
		if err := a.Ack(); !errors.Is(err, mqtt.ErrAcked) {
			t.Errorf("a second Ack: %v", err)
		}
		s.ExpectNothing(time.Second)
		b.Ack()
		s.ExpectBytes(rawAck(0x40, 9))
		s.ExpectNothing(time.Second)
	})
}

// An event says which message holds the window.
func TestAckOverdue(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithAckOverdue(5*time.Second))
		events := s.conn.Watch(t.Context())
		sub := s.subscribed("t", 1, mqtt.WithManualAck())
		msgs := fiveMessages(t, s, sub)
		msgs[0].Ack()
		s.ExpectBytes(rawAck(0x40, 10))
		e := nextEvent[mqtt.AckOverdue](t, events)
		if e.PacketID != 11 || e.Topic != "t" || e.Filter != "t" || e.Owed != 4 || e.Age < 5*time.Second {
			t.Errorf("%+v", e)
		}
		time.Sleep(time.Minute)
		idle(t, events) // once for each message
	})
}

// A PUBLISH sent again after PUBREC is answered and not delivered, on the next link;
// in a new session it is delivered.
func TestQoS2ReceiverDeliversOnce(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		sub := s.subscribed("t", 2)
		s.message(0x34, 9, "t", "x")
		expect(t, sub.C(), "x")
		s.ExpectBytes(rawAck(0x50, 9))
		s.Cut()
		s.next(connack(v, true))
		if v == mqtt.V31 {
			s.ExpectPacket()
		}
		s.message(0x3C, 9, "t", "x")
		s.ExpectBytes(rawAck(0x50, 9))
		idle(t, sub.C())
		s.release(9)
		s.message(0x34, 9, "t", "again free")
		expect(t, sub.C(), "again free")
		s.ExpectBytes(rawAck(0x50, 9))
		if v == mqtt.V31 {
			return // it cannot tell that the session is new
		}
		s.Cut()
		s.next(connack(v, false))
		s.ExpectPacket()
		s.message(0x34, 9, "t", "of the new session")
		expect(t, sub.C(), "of the new session")
		s.ExpectBytes(rawAck(0x50, 9))
	})
}

// Messages of a Conn that has ended are the server's: their Ack says so.
func TestAckAfterClose(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
		sub := subscribe(t, conn, "t", mqtt.WithManualAck())
		publish(t, srv, "t", 1, "x", "y")
		m := take(t, sub.C())
		synctest.Wait() // the other one is in the channel
		conn.Close()
		if err := m.Ack(); !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("Ack: %v", err)
		}
		if rest := drainClosed(t, sub.C()); len(rest) != 1 {
			t.Errorf("%d left in the channel", len(rest))
		}
	})
}

// [MQTT-4.3.2-4]: what was handed out and not acknowledged when the process died
// comes to the next one, which acknowledges it.
func TestUnackedAtACrash(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
			sub := s.subscribed("t", 2, mqtt.WithManualAck())
			s.message(0x30|qos<<1, 9, "t", "x")
			take(t, sub.C())
			s.ExpectNothing(time.Minute)
			s.crash()
			if left := d.kinds(t); len(left) > 0 {
				t.Errorf("in the store: %v", left)
			}
			s = d.script(t, v, true)
			sub = s.subscribed("t", 2, mqtt.WithManualAck())
			s.message(0x38|qos<<1, 9, "t", "x")
			if m := take(t, sub.C()); !m.Dup() || m.Ack() != nil {
				t.Errorf("%+v", m)
			}
			s.ExpectBytes(rawAck(0x30+0x10*qos, 9))
		})
	}
}
