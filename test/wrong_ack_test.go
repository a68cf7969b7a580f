package mqtt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// wrongAcks are acknowledgements that a publish of that QoS cannot have.
var wrongAcks = []struct {
	name string
	qos  byte
	head byte
}{
	{"PUBREC for QoS 1", 1, 0x50},
	{"PUBCOMP for QoS 1", 1, 0x70},
	{"SUBACK for QoS 1", 1, 0x90},
	{"UNSUBACK for QoS 1", 1, 0xB0},
	{"PUBCOMP before PUBREC", 2, 0x70},
	{"SUBACK for QoS 2", 2, 0x90},
	{"UNSUBACK for QoS 2", 2, 0xB0},
	{"PUBACK for QoS 2", 2, 0x40},
}

// keepsLink reports whether a wrong acknowledgement ends the exchange and not the link.
func keepsLink(v mqtt.Version, qos, head byte) bool { return v != mqtt.V5 && qos == 2 && head == 0x40 }

// wrong sends an acknowledgement with that head, in the form of the version, a
// number of times in one piece.
func (s *scripted) wrong(head byte, id uint16, times int) {
	s.t.Helper()
	b := rawAck(head, id)
	switch {
	case (head == 0x90 || head == 0xB0) && s.v == mqtt.V5:
		b = append(b, 0, 0)
	case head == 0x90:
		b = append(b, 0)
	}
	b[1] = byte(len(b) - 2)
	s.SendBytes(bytes.Repeat(b, times))
	synctest.Wait()
}

// closedFor expects the end of the link for a packet that breaks the protocol.
func (s *scripted) closedFor(v mqtt.Version) {
	s.t.Helper()
	if v == mqtt.V5 {
		s.Expect("E0 01 82")
	}
	s.ExpectEOF()
}

// An acknowledgement of the wrong kind ends the link, and the message goes through
// on the next [MQTT-4.8.0-1].
func TestWrongAckEndsTheLinkAndTheResendSavesTheMessage(t *testing.T) {
	for _, c := range wrongAcks {
		t.Run(c.name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				if keepsLink(v, c.qos, c.head) {
					t.Skip("see TestPubackForQoS2On3FailsTheMessageAlone")
				}
				s := script(t, v, mqtt.WithSession(time.Hour))
				f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(c.qos)})
				id := s.firstID()
				s.wrong(c.head, id, 1)
				s.closedFor(v)
				wantErr(t, "Disconnected", await[mqtt.Disconnected](t, s.conn.Events()).Err, mqtt.ErrWrongAck)
				s.next(connack(v, true))
				s.expectPublish(0x38|c.qos<<1, id, "t", "")
				pending(t, f)
				s.finishPublish(c.qos, id)
				succeeded(t, f)
			})
		})
	}
}

// firstID returns the packet identifier of the next packet, a PUBLISH to "t". On 3.1
// the first one of a kept session is anywhere.
func (s *scripted) firstID() uint16 {
	s.t.Helper()
	p := s.ExpectPacket()
	if p[0]&0xF0 != 0x30 || p[4] != 't' {
		s.t.Fatalf("got % X, want a PUBLISH to t", p)
	}
	return binary.BigEndian.Uint16(p[5:])
}

// after is the n-th packet identifier after id.
func after(id, n uint16) uint16 { return uint16((uint32(id)+uint32(n)-1)%65535 + 1) }

// Behind PUBREC it is the PUBREL that is sent again.
func TestWrongAckAfterPubrecEndsTheLinkAndThePubrelIsSentAgain(t *testing.T) {
	for _, head := range []byte{0x40, 0x90, 0xB0} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			s := script(t, v, mqtt.WithSession(time.Hour))
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			id := s.firstID()
			s.sendAck(0x50, id)
			s.ExpectBytes(rawAck(0x62, id))
			for range 2 {
				s.wrong(head, id, 1)
				s.closedFor(v)
				s.next(connack(v, true))
				s.ExpectBytes(rawAck(0x62, id))
			}
			pending(t, f)
			s.sendAck(0x70, id)
			succeeded(t, f)
		})
	}
}

// What got three links closed so fails alone; its packet identifier stays taken,
// since the server may hold a part of the exchange, and the Conn goes on.
func TestThreeLinksClosedByWrongAcksFailTheMessageAlone(t *testing.T) {
	for _, c := range wrongAcks {
		t.Run(c.name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				if keepsLink(v, c.qos, c.head) {
					t.Skip("see TestPubackForQoS2On3FailsTheMessageAlone")
				}
				s := script(t, v, mqtt.WithSession(time.Hour))
				f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(c.qos)})
				other := s.conn.Publish(t.Context(), mqtt.Message{Topic: "u", QoS: 1})
				id := s.firstID()
				s.expectPublish(0x32, after(id, 1), "u", "")
				for link := range 3 {
					if link > 0 {
						s.next(connack(v, true))
						s.expectPublish(0x38|c.qos<<1, id, "t", "")
						s.expectPublish(0x3A, after(id, 1), "u", "")
					}
					pending(t, f)
					s.wrong(c.head, id, 2) // twice on one link counts once
					s.closedFor(v)
				}
				s.next(connack(v, true))
				s.expectPublish(0x3A, after(id, 1), "u", "")
				s.sendAck(0x40, after(id, 1))
				succeeded(t, other)
				wantErr(t, "the Future", f.Err(), mqtt.ErrWrongAck)
				if e, ok := errors.AsType[*mqtt.PublishError](f.Err()); !ok || !e.MayHaveArrived {
					t.Errorf("%v does not say that the server may have it", f.Err())
				}
				next := s.conn.Publish(t.Context(), mqtt.Message{Topic: "v", QoS: 1})
				s.expectPublish(0x32, after(id, 2), "v", "")
				s.sendAck(0x40, after(id, 2))
				succeeded(t, next)
				s.ExpectNothing(time.Minute)
			})
		})
	}
}

// The same without a kept session, where a message of QoS 1 is published anew.
func TestThreeLinksClosedByWrongAcksOfACleanSession(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		for link := range 3 {
			if link > 0 {
				s.next(connack(v, false))
			}
			s.sendAck(0x50, s.firstID())
			s.closedFor(v)
		}
		s.next(connack(v, false))
		wantErr(t, "the Future", f.Err(), mqtt.ErrWrongAck)
		s.ExpectNothing(time.Minute)
	})
}

// On 3.x a PUBACK for QoS 2, as old RabbitMQ sends it, ends the exchange and
// nothing else: the server has the message, and the text says what helps.
func TestPubackForQoS2On3FailsTheMessageAlone(t *testing.T) {
	in3(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(1))
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 1, "t", "")
		s.sendAck(0x40, 1)
		wantErr(t, "the Future", f.Err(), mqtt.ErrWrongAck)
		e, ok := errors.AsType[*mqtt.PublishError](f.Err())
		if !ok || !e.MayHaveArrived || !strings.Contains(e.Error(), "RabbitMQ") || !strings.Contains(e.Error(), "QoS 1") {
			t.Errorf("%v does not say that the server has it and what helps", f.Err())
		}
		s.ExpectNothing(time.Minute)
	})
}

// A SUBSCRIBE or UNSUBSCRIBE that is answered by another kind of packet ends the
// link, and is sent again on the next.
func TestWrongAnswerToAControlPacketEndsTheLink(t *testing.T) {
	for name, head := range map[string]byte{"PUBACK": 0x40, "PUBREC": 0x50, "PUBCOMP": 0x70, "the other": 0} {
		t.Run(name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				s := script(t, v)
				sub, err := s.conn.Subscribe(t.Context(), "f", mqtt.WithoutWaiting())
				if err != nil {
					t.Fatal(err)
				}
				s.ExpectBytes(rawSubscribe(v, 1, 1, "f", 1))
				s.wrong(or(head, 0xB0), 1, 1)
				s.closedFor(v)
				s.next(connack(v, false))
				s.ExpectBytes(rawSubscribe(v, 2, 2, "f", 1))
				s.suback(0x90, 2, 1)
				<-sub.Ready()
				if sub.Err() != nil {
					t.Fatal(sub.Err())
				}
				go s.conn.Unsubscribe(t.Context(), "f")
				s.ExpectBytes(rawUnsubscribe(v, 3, "f"))
				s.wrong(or(head, 0x90), 3, 1)
				s.closedFor(v)
				s.next(connack(v, false)) // a new session: nothing to unsubscribe
				s.ExpectNothing(time.Minute)
			})
		})
	}
}

// The Subscribe whose SUBSCRIBE got three links closed so fails alone; filters
// that were in the same packet are asked for alone, and granted.
func TestThreeLinksClosedByWrongAnswersFailThatSubscribeAlone(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "bad", QoS: 1}, {Pattern: "good", QoS: 1}},
			mqtt.WithPartialSuccess(), mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectBytes(rawSubscribe(v, 1, 1, "bad", 1, "good", 1))
		s.wrong(0xB0, 1, 1)
		s.closedFor(v)
		again := 1
		if v == mqtt.V5 {
			again = 0x11 // granted before, so without retained copies
		}
		for link := range 2 {
			s.next(connack(v, false))
			id := uint16(2 + 2*link)
			s.ExpectBytes(rawSubscribe(v, id, byte(id), "bad", 1))
			good := 1
			if link > 0 {
				good = again
			}
			s.ExpectBytes(rawSubscribe(v, id+1, byte(id+1), "good", good))
			s.suback(0x90, id+1, 1)
			s.wrong(0xB0, id, 2)
			s.closedFor(v)
		}
		s.next(connack(v, false))
		s.ExpectBytes(rawSubscribe(v, 6, 6, "good", again))
		s.suback(0x90, 6, 1)
		s.ExpectNothing(time.Minute)
		<-sub.Ready()
		r := sub.Results()
		if !errors.Is(r[0].Err, mqtt.ErrWrongAck) || r[1].Err != nil || sub.Err() != nil {
			t.Errorf("results %+v, Err %v", r, sub.Err())
		}
		s.message(0x30, 0, "good", "x")
		expect(t, sub.C(), "x")
	})
}

// A SUBACK with another number of codes than filters is no answer either; alone in
// their packets the filters may be granted.
func TestSubackWithTheWrongNumberOfCodesIsMendedByPacketsOfOneFilter(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a", QoS: 1}, {Pattern: "b", QoS: 1}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectBytes(rawSubscribe(v, 1, 1, "a", 1, "b", 1))
		s.suback(0x90, 1, 1)
		s.closedFor(v)
		s.next(connack(v, false))
		s.ExpectBytes(rawSubscribe(v, 2, 2, "a", 1))
		s.ExpectBytes(rawSubscribe(v, 3, 3, "b", 1))
		s.suback(0x90, 2, 1)
		s.suback(0x90, 3, 1)
		<-sub.Ready()
		if sub.Err() != nil {
			t.Error(sub.Err())
		}
	})
}

// An UNSUBSCRIBE that got three links of a kept session closed so is given up.
func TestThreeLinksClosedByWrongAnswersGiveUpTheUnsubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		other := s.conn.CatchAll()
		go s.conn.Unsubscribe(t.Context(), "f")
		synctest.Wait()
		for link := range 3 {
			if link > 0 {
				s.next(connack(v, true))
			}
			p := s.ExpectPacket()
			s.wrong(0x90, uint16(p[2])<<8|uint16(p[3]), 1)
			s.closedFor(v)
		}
		s.next(connack(v, true))
		s.message(0x32, 1, "f", "x")
		s.ExpectNothing(time.Second)
		expect(t, other.C(), "x")
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectNothing(time.Minute)
	})
}

// The same for an UNSUBACK with another number of codes, which 3.x does not have.
func TestUnsubackWithTheWrongNumberOfCodesGivesUpTheUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		go s.conn.Unsubscribe(t.Context(), "f")
		synctest.Wait()
		for link := range 3 {
			if link > 0 {
				s.next(server.ConnackPresent)
			}
			p := s.ExpectPacket()
			s.suback(0xB0, binary.BigEndian.Uint16(p[2:]), 0, 0)
			s.closedFor(mqtt.V5)
		}
		s.next(server.ConnackPresent)
		s.ExpectNothing(time.Minute)
	})
}

// Behind our DISCONNECT it changes nothing: closing first would make the server drop
// what it has not read.
func TestWrongAckBehindDisconnectLeavesTheCloseToTheServer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithCloseTimeout(4*time.Second))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 1, "t", "")
		if _, err := s.conn.Subscribe(t.Context(), "f", mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		s.ExpectBytes(rawSubscribe(v, 2, 1, "f", 1))
		go s.conn.Close()
		time.Sleep(3 * time.Second)
		s.Expect("E0 00")
		s.wrong(0x50, 1, 1)
		s.wrong(0xB0, 2, 1)
		s.ExpectNothing(400 * time.Millisecond)
		s.Close()
		<-s.conn.Done()
	})
}

func or(a, b byte) byte {
	if a != 0 {
		return a
	}
	return b
}

// Links closed for one message after the other do not end the Conn.
func TestWrongAcksOfManyMessagesDoNotEndTheConn(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		for range 6 {
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			id := s.firstID()
			s.sendAck(0x50, id)
			s.closedFor(v)
			s.next(connack(v, true))
			s.expectPublish(0x3A, id, "t", "")
			s.sendAck(0x40, id)
			succeeded(t, f)
		}
		if s.conn.Err() != nil {
			t.Error(s.conn.Err())
		}
	})
}
