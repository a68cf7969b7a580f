package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Acknowledgements of nothing are answered where the protocol wants it,
// counted, and change nothing else.
func TestAcksOfNothing(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		s.SendBytes(rawAck(0x62, 0x0777)) // PUBREL
		s.ExpectBytes(unknown(v, 0x70))
		s.SendBytes(rawAck(0x50, 0x0777)) // PUBREC
		s.ExpectBytes(unknown(v, 0x62))
		s.sendAck(0x40, 0x0777)
		s.sendAck(0x70, 0x0777)
		if v == mqtt.V5 {
			s.Send("90 04 0777 00 00")
			s.Send("B0 04 0777 00 00")
		} else {
			s.Send("90 03 0777 00")
			s.Send("B0 02 0777")
		}
		s.ExpectNothing(time.Minute)
		if n := s.conn.Stats().IgnoredAcks; n != 5 {
			t.Errorf("%d counted", n)
		}
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 1, "t", "")
		s.sendAck(0x50, 1)
		s.ExpectBytes(rawAck(0x62, 1))
		s.sendAck(0x50, 1) // PUBREC again while PUBCOMP is awaited
		s.ExpectBytes(rawAck(0x62, 1))
		s.sendAck(0x70, 1)
		s.sendAck(0x70, 1)
		succeeded(t, f)
	})
}

// unknown is the answer about packet identifier 0x0777.
func unknown(v mqtt.Version, head byte) []byte {
	if v == mqtt.V5 {
		return []byte{head, 3, 7, 0x77, 0x92}
	}
	return rawAck(head, 0x0777)
}

// PUBCOMP 0x92 for a PUBREL that was sent again on resume is success: the
// server had finished before the cut. For one that was not, it is a failure.
func TestPubcompNotFoundIsSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 1, "t", "")
		s.sendAck(0x50, 1)
		s.ExpectBytes(rawAck(0x62, 1))
		s.recut(server.ConnackPresent)
		s.ExpectBytes(rawAck(0x62, 1))
		s.Send("70 03 0001 92")
		succeeded(t, f)

		f = s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 2, "t", "")
		s.sendAck(0x50, 2)
		s.ExpectBytes(rawAck(0x62, 2))
		s.Send("70 03 0002 92")
		if e, ok := errors.AsType[*mqtt.ReasonError](outcome(t, f)); !ok || e.Code != codec.PacketIdentifierNotFound || e.Packet != codec.PUBCOMP {
			t.Errorf("%v", f.Err())
		}
	})
}

// An acknowledgement of the wrong kind ends a 5.0 link with 0x82, and the
// exchange goes on with the next.
func TestWrongAckOn5(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  byte
		ack  string
	}{
		{"PUBACK for QoS 2", 2, "40 02 0001"},
		{"PUBREC for QoS 1", 1, "50 02 0001"},
		{"PUBCOMP for QoS 1", 1, "70 02 0001"},
		{"PUBCOMP before PUBREC", 2, "70 02 0001"},
		{"SUBACK for a PUBLISH", 1, "90 04 0001 00 00"},
		{"UNSUBACK for a PUBLISH", 2, "B0 04 0001 00 00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
				f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(c.qos)})
				s.expectPublish(0x30|c.qos<<1, 1, "t", "")
				s.Send(c.ack)
				s.Expect("E0 01 82")
				s.ExpectEOF()
				s.next(server.ConnackPresent)
				s.expectPublish(0x38|c.qos<<1, 1, "t", "")
				pending(t, f)
				if c.qos == 1 {
					s.sendAck(0x40, 1)
				} else {
					s.finishPublish(2, 1)
				}
				succeeded(t, f)
			})
		})
	}
}

// On 3.x a PUBACK for QoS 2 fails its Future, frees the identifier and the
// place in the window, and the link stays.
func TestWrongAckOn3(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		if v == mqtt.V5 {
			t.Skip("see TestWrongAckOn5")
		}
		s := script(t, v, mqtt.WithMaxInflight(1))
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		next := s.conn.Publish(t.Context(), mqtt.Message{Topic: "u", QoS: 1})
		s.expectPublish(0x34, 1, "t", "")
		s.sendAck(0x40, 1)
		if !errors.Is(f.Err(), mqtt.ErrWrongAck) {
			t.Errorf("%v", f.Err())
		}
		s.expectPublish(0x32, 2, "u", "")
		s.sendAck(0x40, 2)
		succeeded(t, next)
	})
}

// Acknowledgements in any order resolve each Future by its own.
func TestAcksInAnyOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{OnPublish: func(p server.Received) codec.ReasonCode {
			if v == mqtt.V5 && p.Payload[0]%3 == 0 {
				return codec.QuotaExceeded
			}
			return codec.Success
		}}, mqtt.WithMaxInflight(100))
		rng := chance.Rand(t)
		srv.Hold(codec.PUBACK, codec.PUBREC, codec.PUBCOMP)
		fs := make([]*mqtt.Future, 100)
		for i := range fs {
			fs[i] = conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte{byte(i)}, QoS: mqtt.QoS(1 + i%2)})
		}
		for range 2 {
			synctest.Wait()
			srv.Release(func(a []server.Ack) []server.Ack {
				rng.Shuffle(len(a), func(i, j int) { a[i], a[j] = a[j], a[i] })
				return a
			})
		}
		for i, f := range fs {
			err := outcome(t, f)
			if refused := v == mqtt.V5 && i%3 == 0; (err != nil) != refused {
				t.Errorf("%d: %v", i, err)
			}
			if int(f.PacketID()) != i+1 {
				t.Errorf("publish %d had packet id %d", i, f.PacketID())
			}
		}
	})
}
