package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// [MQTT-4.3.1-1] [MQTT-2.2.1-2] [MQTT-3.3.1-2]: QoS 0 has no DUP and no identifier.
func TestPublishQoS0OnTheWire(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "a/b", Payload: []byte("x")})
		s.expectPublish(0x30, 0, "a/b", "x")
		succeeded(t, f)
		if f.PacketID() != 0 || f.Stage() != mqtt.StageDone {
			t.Errorf("packet id %d, stage %v", f.PacketID(), f.Stage())
		}
		succeeded(t, s.conn.Publish(t.Context(), mqtt.Message{Topic: "a/b", Retain: true}))
		s.expectPublish(0x31, 0, "a/b", "")
	})
}

// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-3]
func TestPublishQoS1OnTheWire(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 1})
		s.expectPublish(0x32, 1, "t", "x")
		pending(t, f)
		if f.Stage() != mqtt.StageSent || f.PacketID() != 1 {
			t.Errorf("stage %v, packet id %d", f.Stage(), f.PacketID())
		}
		s.sendAck(0x40, 1)
		succeeded(t, f)
		s.ExpectNothing(time.Minute)
	})
}

// [MQTT-4.3.3-1] to [MQTT-4.3.3-6]
func TestPublishQoS2OnTheWire(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 2, Retain: true})
		s.expectPublish(0x35, 1, "t", "x")
		s.sendAck(0x50, 1)
		s.ExpectBytes(rawAck(0x62, 1))
		pending(t, f)
		if f.Stage() != mqtt.StageReceived {
			t.Errorf("stage %v", f.Stage())
		}
		s.sendAck(0x70, 1)
		succeeded(t, f)
	})
}

// Remaining lengths 2, 3 and 4 and more of every acknowledgement are understood.
func TestAckFormsOf5(t *testing.T) {
	for _, tail := range []string{"02 0001", "03 0001 00", "04 0001 00 00", "0A 0001 00 06 1F 0003 6F6B21"} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5)
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, 1, "t", "")
			s.Send("40" + tail)
			succeeded(t, f)
			f = s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, 2, "t", "")
			tail = tail[:5] + "2" + tail[6:]
			tail = tail[:3] + "0002" + tail[7:]
			s.Send("50" + tail)
			s.ExpectBytes(rawAck(0x62, 2))
			s.Send("70" + tail)
			succeeded(t, f)
		})
	}
}

// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.7.2-1]: a code that is in no table ends the link.
func TestAckWithUnknownReasonCode(t *testing.T) {
	for _, ack := range []string{"40 04 0001 FF 00", "50 04 0001 FF 00", "70 04 0001 FF 00", "40 04 0001 92 00", "40 05 0001 00 00 00"} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5)
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, 1, "t", "")
			s.Send(ack)
			if got := s.Expect("E0 01 ??"); got[2] != 0x81 && got[2] != 0x82 {
				t.Errorf("% X", got)
			}
			s.ExpectEOF()
		})
	}
}

// [MQTT-3.3.1-3]: neither DUP nor the retain flag of a received message is sent on.
func TestEchoCarriesNoFlags(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithCatchAll())
		got := s.conn.CatchAll().C()
		s.SendBytes(rawPublish(v, 0x3B, 7, "t", "x")) // DUP, QoS 1, RETAIN
		m := <-got
		s.ExpectBytes(rawAck(0x40, 7))
		if !m.Dup() || !m.Retained() || m.Retain {
			t.Errorf("DUP %t, retained %t, retain %t", m.Dup(), m.Retained(), m.Retain)
		}
		s.conn.Publish(t.Context(), m)
		s.expectPublish(0x32, 1, "t", "x")
	})
}

// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-2.2.1-3]: on resume, in the original order,
// with the identifiers of before; PUBREL where PUBREC was seen, and never the
// PUBLISH.
func TestResumeSendsOpenExchanges(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		var fs []*mqtt.Future
		for i, qos := range []mqtt.QoS{1, 2, 1, 2, 2} {
			fs = append(fs, s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte{'a' + byte(i)}, QoS: qos}))
			s.expectPublish(0x30|byte(qos)<<1, fs[0].PacketID()+uint16(i), "t", string(rune('a'+i)))
		}
		base := fs[0].PacketID() - 1 // random where an unknown session may be resumed
		s.sendAck(0x50, base+4)
		s.ExpectBytes(rawAck(0x62, base+4))
		s.sendAck(0x50, base+2)
		s.ExpectBytes(rawAck(0x62, base+2))
		s.sendAck(0x40, base+1)
		succeeded(t, fs[0])
		for range 3 {
			s.recut(connack(v, true))
			s.ExpectBytes(rawAck(0x62, base+4)) // in the order of the PUBRECs [MQTT-4.6.0-4]
			s.ExpectBytes(rawAck(0x62, base+2))
			s.expectPublish(0x3A, base+3, "t", "c")
			s.expectPublish(0x3C, base+5, "t", "e")
			s.ExpectNothing(2 * time.Minute) // and at no other time
		}
		for _, f := range fs[1:] {
			pending(t, f)
		}
		s.sendAck(0x70, base+2)
		s.sendAck(0x70, base+4)
		s.sendAck(0x40, base+3)
		s.sendAck(0x50, base+5)
		s.ExpectBytes(rawAck(0x62, base+5))
		s.sendAck(0x70, base+5)
		for _, f := range fs {
			succeeded(t, f)
		}
		s.recut(connack(v, true))
		s.ExpectNothing(time.Minute)
	})
}

// A PUBREC that is the last the client reads of a link counts.
func TestPubrecJustBeforeTheEnd(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		f1 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f2 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		id := f1.PacketID()
		s.expectPublish(0x32, id, "t", "")
		s.expectPublish(0x34, id+1, "t", "")
		time.Sleep(2 * time.Second)
		s.SendBytes(append(rawAck(0x40, id), rawAck(0x50, id+1)...))
		s.Close()
		s.next(connack(v, true))
		succeeded(t, f1)
		s.ExpectBytes(rawAck(0x62, id+1))
		s.sendAck(0x70, id+1)
		succeeded(t, f2)
	})
}

// [MQTT-4.3.3-4] [MQTT-4.4.0-2]: a refusal ends the exchange, frees its
// identifier, and says why; nothing of it is sent again.
func TestRefusalCodesOfPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, "20 06 00 00 03 21 0001", mqtt.WithSession(time.Hour)) // Receive Maximum 1
		refuse := func(f *mqtt.Future, packet codec.Type) {
			t.Helper()
			err := outcome(t, f)
			e, ok := errors.AsType[*mqtt.ReasonError](err)
			if !ok || !errors.Is(err, mqtt.ErrNotAuthorized) {
				t.Fatalf("%v", err)
			}
			if e.Packet != packet || e.Code != codec.NotAuthorized || e.Reason != "no" || len(e.User) != 2 || e.User[1] != (mqtt.UserProperty{Key: "k", Value: "2"}) {
				t.Errorf("%+v", e)
			}
			if r := f.Result(); r.Code != codec.NotAuthorized || r.Reason != "no" || len(r.User) != 2 {
				t.Errorf("%+v", r)
			}
			if p, ok := errors.AsType[*mqtt.PublishError](err); !ok || p.Topic != "t" {
				t.Errorf("%#v", err)
			}
		}
		const props = "13 1F 0002 6E6F 26 0001 6B 0001 31 26 0001 6B 0001 32"
		f1 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f2 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		f3 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x32, 1, "t", "")
		s.Send("40 17 0001 87" + props)
		refuse(f1, codec.PUBACK)
		s.expectPublish(0x34, 2, "t", "")
		s.Send("50 17 0002 87" + props)
		refuse(f2, codec.PUBREC)
		s.expectPublish(0x34, 3, "t", "") // and no PUBREL before it
		s.Send("50 04 0003 10 00")
		s.ExpectBytes(rawAck(0x62, 3))
		s.sendAck(0x70, 3)
		succeeded(t, f3)
		if c := f3.Result().Code; c != codec.NoMatchingSubscribers {
			t.Errorf("code %v", c)
		}
		s.recut(server.ConnackPresent)
		s.ExpectNothing(time.Minute)
		f4 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 4, "t", "")
		s.Send("40 04 0004 10 00")
		succeeded(t, f4)
		if c := f4.Result().Code; c != codec.NoMatchingSubscribers {
			t.Errorf("code %v", c)
		}
	})
}

// [MQTT-3.14.4-1]: what is published while a DISCONNECT is on its way waits for
// the next link.
func TestNothingFollowsDisconnect(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		s.Stall(server.ToServer)
		if err := s.conn.Reconnect(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // it is in the buffer
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f0 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t"})
		s.Resume(server.ToServer)
		if rest := s.Rest(); len(rest) > 3 || rest[0] != 0xE0 {
			t.Errorf("% X", rest)
		}
		if err := outcome(t, f0); err == nil {
			t.Error("a QoS 0 message that no link carried succeeded")
		}
		s.next(connack(v, true))
		s.expectPublish(0x32, f.PacketID(), "t", "")
		s.sendAck(0x40, f.PacketID())
		succeeded(t, f)
	})
}
