package mqtt_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// faults are messages that break the protocol and can be acknowledged all the same.
var faults = []struct {
	name  string
	topic string
	props []byte // with their length, 5.0; nil for none
	shown string // the topic in the event
}{
	{name: "wildcard", topic: "a/+/b", shown: `"a/+/b"`},
	{name: "malformed UTF-8", topic: "a/\xFF", shown: `"a/\xff"`},
	{name: "NUL", topic: "a\x00b", shown: `"a\x00b"`},
	{name: "empty topic", topic: "", shown: `""`},
	{name: "unknown property", topic: "t", props: []byte{2, 0x7F, 1}, shown: `"t"`},
	{name: "properties run past the end", topic: "t", props: []byte{90, 1, 1}, shown: `"t"`},
	{name: "response topic with a wildcard", topic: "t", props: []byte{4, 0x08, 0, 1, '#'}, shown: `"t"`},
	{name: "topic alias", topic: "t", props: []byte{3, 0x23, 0, 1}, shown: `"t"`},
}

// faultyPublish makes a PUBLISH of topic with properties as they are.
func faultyPublish(v mqtt.Version, head byte, id uint16, topic string, props []byte) []byte {
	b := rawPublish(v, head, id, topic, "x")
	if props == nil {
		return b
	}
	at := 2 + 2 + len(topic)
	if head&6 != 0 {
		at += 2
	}
	b = slices.Concat(b[:at], props, b[at+1:])
	b[1] += byte(len(props) - 1)
	return b
}

// A message that makes us close the link again and again is passed over after three
// links that died young of it: acknowledged in its turn, dropped, named by an event;
// the messages around it are delivered and the Conn goes on.
func TestFaultyMessageIsPassedOverAfterThreeLinks(t *testing.T) {
	for _, fault := range faults {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s, QoS %d", fault.name, qos), func(t *testing.T) {
				inEachVersion(t, func(t *testing.T, v mqtt.Version) {
					if fault.props != nil && v != mqtt.V5 {
						return
					}
					s := script(t, v, mqtt.WithSession(time.Hour))
					ch := s.subscribed("good", 1).C()
					s.recut(connack(v, v != mqtt.V31))
					if v == mqtt.V31 {
						s.grant31()
					}
					for range 3 {
						s.SendBytes(faultyPublish(v, 0x30|qos<<1, 7, fault.topic, fault.props))
						s.Rest()
						s.next(connack(v, v != mqtt.V31))
						if v == mqtt.V31 {
							s.grant31()
						}
					}
					told[mqtt.FaultyMessage](s.conn)
					s.batch(rawPublish(v, 0x32, 6, "good", "1"), faultyPublish(v, 0x30|qos<<1, 7, fault.topic, fault.props),
						rawPublish(v, 0x32, 8, "good", "2"))
					expect(t, ch, "1", "2")
					s.ExpectBytes(rawAck(0x40, 6))
					switch qos {
					case 1:
						s.ExpectBytes(rawAck(0x40, 7))
						s.ExpectBytes(rawAck(0x40, 8))
					case 2:
						s.ExpectBytes(rawAck(0x40, 8))
						s.ExpectBytes(rawAck(0x50, 7))
						s.release(7)
					default:
						s.ExpectBytes(rawAck(0x40, 8))
					}
					s.ExpectNothing(time.Hour)
					evs := told[mqtt.FaultyMessage](s.conn)
					if len(evs) != 1 || evs[0].Topic != fault.shown || evs[0].QoS != mqtt.QoS(qos) || evs[0].Total != 1 {
						t.Fatalf("%+v", evs)
					}
					if id := uint16(7); qos > 0 && evs[0].PacketID != id || qos == 0 && evs[0].PacketID != 0 {
						t.Errorf("%+v", evs[0])
					}
					if _, ok := errors.AsType[*mqtt.ProtocolError](evs[0].Err); !ok {
						t.Errorf("%v", evs[0].Err)
					}
					if st := s.conn.Stats(); st.Faulty != 1 || st.AcksOwed != 0 {
						t.Errorf("%+v", st)
					}
				})
			})
		}
	}
}

// grant31 answers the SUBSCRIBE that 3.1 sends on each link.
func (s *scripted) grant31() {
	s.t.Helper()
	p := s.ExpectPacket()
	s.suback(0x90, uint16(p[2])<<8|uint16(p[3]), 1)
}

// Two faulty messages in one session are both passed over; a third kind still ends the
// link.
func TestEachFaultyMessageIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311, mqtt.WithSession(time.Hour))
		both := slices.Concat(rawPublish(mqtt.V311, 0x32, 1, "a/#", "x"), rawPublish(mqtt.V311, 0x32, 2, "b/#", "x"))
		for range 6 {
			s.SendBytes(both)
			s.Rest()
			s.next(connack(mqtt.V311, true))
		}
		s.SendBytes(both)
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectBytes(rawAck(0x40, 2))
		s.ExpectNothing(time.Minute)
		s.SendBytes(rawPublish(mqtt.V311, 0x32, 3, "c/#", "x"))
		s.ExpectEOF()
	})
}

// Links that lived well do not count, and packets that cannot be acknowledged are never
// passed over.
func TestFaultsThatAreNotPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311, mqtt.WithSession(time.Hour))
		for range 10 {
			time.Sleep(11 * time.Second)
			s.SendBytes(rawPublish(mqtt.V311, 0x32, 1, "a/#", "x"))
			s.ExpectEOF()
			s.next(connack(mqtt.V311, true))
		}
		if evs := told[mqtt.FaultyMessage](s.conn); len(evs) > 0 {
			t.Errorf("%+v", evs)
		}
	})
	for name, packet := range map[string]string{
		"packet identifier 0":       "32 05 0001 74 0000",
		"topic runs past the end":   "32 05 00FF 74 0001",
		"no room for an identifier": "32 04 0001 74 01",
		"QoS 3":                     "36 05 0001 74 0001",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V311, mqtt.WithSession(time.Hour))
				for n := range 3 {
					s.Send(packet)
					if n < 2 {
						s.next(connack(mqtt.V311, true))
					}
				}
				<-s.conn.Done()
				if _, ok := errors.AsType[*mqtt.ProtocolError](s.conn.Err()); !ok {
					t.Errorf("the Conn ended with %v", s.conn.Err())
				}
			})
		})
	}
}

// A faulty message is passed over with a durable inbox and a session store too, and its
// QoS 2 exchange ends.
func TestFaultyMessageIsPassedOverWithAnInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.script(t, v, true, mqtt.WithInbox())
		for range 3 {
			s.SendBytes(rawPublish(v, 0x34, 7, "a/#", "x"))
			s.Rest()
			s.next(connack(v, true))
		}
		s.SendBytes(rawPublish(v, 0x34, 7, "a/#", "x"))
		s.ExpectBytes(rawAck(0x50, 7))
		s.release(7)
		if evs := told[mqtt.FaultyMessage](s.conn); len(evs) != 1 {
			t.Errorf("%+v", evs)
		}
		s.closeEmpty(d)
	})
}
