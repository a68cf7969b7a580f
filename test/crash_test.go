package mqtt_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// crashPoint is a state of an exchange at which the process dies.
type crashPoint struct {
	name string
	qos  mqtt.QoS
	// before brings the exchange there.
	before func(s *storedScript)
	// resumed and lost are what the next process does when the server has the
	// session, and when it has lost it.
	resumed, lost func(s *storedScript)
}

// again takes the PUBLISH with an identifier, and ends the exchange.
func again(head byte, id uint16) func(*storedScript) {
	return func(s *storedScript) {
		s.expectPublish(head, id, "t", "x")
		if head&6 == 2 {
			s.sendAck(0x40, id)
			return
		}
		s.finishPublish(2, id)
	}
}

// release takes the PUBREL of identifier 1, and answers it; on 5.0 by code, in hex.
func release(code string) func(*storedScript) {
	return func(s *storedScript) {
		s.ExpectBytes(rawAck(0x62, 1))
		if s.v == mqtt.V5 && code != "" {
			s.Send("70 03 0001" + code)
		} else {
			s.sendAck(0x70, 1)
		}
	}
}

func crashPoints() []crashPoint {
	publish := func(s *storedScript, qos mqtt.QoS) {
		s.conn.Publish(s.t.Context(), keyed("x", qos))
		synctest.Wait()
	}
	written := func(s *storedScript, qos mqtt.QoS) {
		publish(s, qos)
		s.expectPublish(0x30|byte(qos)<<1, 1, "t", "x")
	}
	received := func(s *storedScript) {
		written(s, 2)
		s.sendAck(0x50, 1)
		s.ExpectBytes(rawAck(0x62, 1))
	}
	nothing := func(s *storedScript) { s.ExpectNothing(time.Minute) }
	failed := func(s *storedScript) {
		nothing(s)
		evs := told[mqtt.MessageDropped](s.conn)
		if len(evs) != 1 || !errors.Is(evs[0].Err, mqtt.ErrSessionLost) || evs[0].Topic != "t" {
			s.t.Errorf("events %+v, want one for a lost session", evs)
		}
	}
	return []crashPoint{
		{"queued", 1, func(s *storedScript) { s.hold(); publish(s, 1) }, nothing, nothing},
		{"stored, QoS 1", 1, func(s *storedScript) { s.offline(); publish(s, 1) }, again(0x32, 1), again(0x32, 1)},
		{"stored, QoS 2", 2, func(s *storedScript) { s.offline(); publish(s, 2) }, again(0x34, 1), again(0x34, 1)},
		{"written, QoS 1", 1, func(s *storedScript) { written(s, 1) }, again(0x3A, 1), again(0x32, 2)},
		{"written, QoS 2", 2, func(s *storedScript) { written(s, 2) }, again(0x3C, 1), failed},
		{"PUBREC seen", 2, func(s *storedScript) {
			written(s, 2)
			s.hold()
			s.sendAck(0x50, 1)
			s.ExpectNothing(time.Second)
		}, again(0x3C, 1), failed},
		{"PUBREL written", 2, received, release(""), failed},
		{"PUBACK seen, not deleted", 1, func(s *storedScript) {
			written(s, 1)
			s.hold()
			s.sendAck(0x40, 1)
		}, again(0x3A, 1), again(0x32, 2)},
		{"PUBCOMP seen, not deleted", 2, func(s *storedScript) {
			received(s)
			s.hold()
			s.sendAck(0x70, 1)
		}, release("92"), failed},
	}
}

// What the next process sends after a crash at each state, byte by byte; nothing
// stays in the store once the exchange is through.
func TestCrashAtEachState(t *testing.T) {
	for _, c := range crashPoints() {
		for _, present := range []bool{true, false} {
			name := c.name + ", session resumed"
			if !present {
				name = c.name + ", session lost"
			}
			t.Run(name, func(t *testing.T) {
				onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
					c.before(s)
					s.crash()
					s = d.script(t, v, present)
					if present {
						c.resumed(s)
					} else {
						c.lost(s)
					}
					s.ExpectNothing(time.Minute)
					flush(t, s.conn)
					if s.conn.Lookup("x") != nil {
						t.Error("the message is still in flight")
					}
					s.closeEmpty(d)
				})
			})
		}
	}
}

// WithSessionLost decides over a crash as well. What the server owned fails
// all the same.
func TestWithSessionLostOverACrash(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		for i, qos := range []mqtt.QoS{1, 2, 2} {
			s.conn.Publish(t.Context(), keyed(string(rune('a'+i)), qos))
			s.expectPublish(0x30|byte(qos)<<1, uint16(i+1), "t", string(rune('a'+i)))
		}
		s.sendAck(0x50, 3)
		s.ExpectBytes(rawAck(0x62, 3))
		s.crash()
		s = d.script(t, v, false, mqtt.WithSessionLost(mqtt.LostFail, mqtt.LostPublish))
		s.expectPublish(0x34, 4, "t", "b")
		s.ExpectNothing(time.Minute)
		if evs := told[mqtt.MessageDropped](s.conn); len(evs) != 2 {
			t.Errorf("events %+v, want two", evs)
		}
	})
}

// A message that is published anew still shows that it is stored.
func TestPublishedAnewIsStored(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		f := s.conn.Publish(t.Context(), keyed("x", 1))
		s.expectPublish(0x32, 1, "t", "x")
		s.hold()
		s.recut(connack(v, false))
		if f.Stage() != mqtt.StageStored {
			t.Errorf("stage %v, want stored", f.Stage())
		}
		s.letGo()
		s.expectPublish(0x32, 2, "t", "x")
	})
}

// What had its packet identifier and was not written is not in flight after a Conn
// that ended in order: a lost session does not fail it.
func TestNeverWrittenStaysQueuedOverAClose(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.script(t, v, false, mqtt.WithMaxInflight(1), mqtt.WithCloseTimeout(time.Second))
		for _, key := range []string{"a", "b", "c"} {
			s.conn.Publish(t.Context(), keyed(key, 2))
		}
		s.expectPublish(0x34, 1, "t", "a")
		s.conn.Abort()
		s = d.script(t, v, false)
		s.expectPublish(0x34, 2, "t", "b")
		s.expectPublish(0x34, 3, "t", "c")
		s.ExpectNothing(time.Minute)
	})
}

// [MQTT-4.6.0-4]: PUBRELs leave in the order of the PUBRECs, whichever process saw them.
func TestPubrelsKeepTheirOrderOverProcesses(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		for id := range uint16(4) {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, id+1, "t", "")
		}
		for _, id := range []uint16{4, 2} {
			s.sendAck(0x50, id)
			s.ExpectBytes(rawAck(0x62, id))
		}
		s.crash()
		s = d.script(t, v, true)
		s.ExpectBytes(rawAck(0x62, 4))
		s.ExpectBytes(rawAck(0x62, 2))
		s.expectPublish(0x3C, 1, "t", "")
		s.expectPublish(0x3C, 3, "t", "")
		for _, id := range []uint16{3, 1} {
			s.sendAck(0x50, id)
			s.ExpectBytes(rawAck(0x62, id))
		}
		s.crash()
		s = d.script(t, v, true)
		for _, id := range []uint16{4, 2, 3, 1} {
			s.ExpectBytes(rawAck(0x62, id))
		}
	})
}

// An identifier whose PUBREC was lost with the process is known to the next;
// not after the server lost the session.
func TestInboundIdentifierOutlivesACrash(t *testing.T) {
	for _, present := range []bool{true, false} {
		onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
			c := s.subscribed("t", 2).C()
			s.message(0x34, 9, "t", "x")
			expect(t, c, "x")
			s.ExpectBytes(rawAck(0x50, 9))
			s.crash()
			routes := mqtt.WithSubscription("t", mqtt.QoS(2))
			s = d.script(t, v, present, routes)
			s.ExpectPacket() // SUBSCRIBE
			c = s.conn.Subscription("t").C()
			s.message(0x3C, 9, "t", "x")
			if !present {
				expect(t, c, "x")
			}
			s.ExpectBytes(rawAck(0x50, 9))
			idle(t, c)
			s.release(9)
			s.message(0x34, 9, "t", "y")
			expect(t, c, "y")
			s.ExpectBytes(rawAck(0x50, 9))
			s.release(9)
			s.closeEmpty(d)
		})
	}
}

// A message whose PUBREC was not released before the crash was not acknowledged: it
// is delivered to the next process.
func TestInboundNotRecordedIsDelivered(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		c := s.subscribed("t", 2).C()
		s.hold()
		s.message(0x34, 9, "t", "x")
		expect(t, c, "x")
		s.crash()
		if keys := d.records(t); len(keys) != 1 || keys[0].Kind != store.Meta {
			t.Errorf("stored: %v", keys)
		}
		s = d.script(t, v, true, mqtt.WithSubscription("t", mqtt.QoS(2)))
		s.ExpectPacket()
		s.message(0x3C, 9, "t", "x")
		expect(t, s.conn.Subscription("t").C(), "x")
		s.ExpectBytes(rawAck(0x50, 9))
	})
}

// All that a message consists of outlives the process, of one that was sent
// and of one that only waits.
func TestStoredMessageIsWhole(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		m := mqtt.Message{Topic: "a/b", Payload: []byte("x"), QoS: 1, Retain: true}
		idAt := 2 + 2 + len(m.Topic)
		if v == mqtt.V5 {
			m.Properties = &mqtt.Properties{
				ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0, 0xFF}, UTF8: true,
				User: []mqtt.UserProperty{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}},
			}
		}
		d := newDisk()
		s := d.script(t, v, false)
		s.conn.Publish(t.Context(), m)
		sent := slices.Clone(s.ExpectPacket())
		if sent[0] != 0x33 || binary.BigEndian.Uint16(sent[idAt:]) != 1 {
			t.Fatalf("sent % X", sent)
		}
		s.offline()
		if err := s.conn.Publish(t.Context(), m).WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crash()
		s = d.script(t, v, true)
		sent[0] = 0x3B
		s.ExpectBytes(sent)
		sent[0], sent[idAt+1] = 0x33, 2
		s.ExpectBytes(sent)
	})
}

// The record of a lost session says nothing of a new message with its identifier.
func TestInboundRecordOfALostSession(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		c := s.subscribed("t", 2).C()
		s.hold()
		s.message(0x34, 9, "t", "x")
		s.recut(connack(v, false))
		s.suback(0x90, binary.BigEndian.Uint16(s.ExpectPacket()[2:]), 2)
		s.message(0x34, 9, "t", "y")
		expect(t, c, "x", "y")
		s.letGo() // of x
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x50, 9))
		s.open()
		s.release(9)
		s.closeEmpty(d)
	})
}

// When the server gives an identifier to another message before it released the
// first, the record of the first goes: a later process would take a third for it.
func TestInboundRecordOfAReplacedMessage(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		c := s.subscribed("t", 2).C()
		s.message(0x34, 9, "t", "x")
		s.ExpectBytes(rawAck(0x50, 9))
		s.message(0x32, 9, "t", "y")
		s.ExpectBytes(rawAck(0x40, 9))
		expect(t, c, "x", "y")
		s.closeEmpty(d)
	})
}
