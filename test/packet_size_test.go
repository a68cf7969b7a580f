package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// connackMaxPacket is a CONNACK with the server's Maximum Packet Size.
func connackMaxPacket(present bool, n int) string {
	p := 0
	if present {
		p = 1
	}
	return fmt.Sprintf("20 08 %02X 00 05 27 %08X", p, n)
}

func tooLarge(t *testing.T, err error, size, limit int) {
	t.Helper()
	e, ok := errors.AsType[*mqtt.PacketTooLargeError](err)
	if !ok || !errors.Is(err, mqtt.ErrPacketTooLarge) || e.Size != size || e.Max != limit {
		t.Errorf("%v, want %d above %d", err, size, limit)
	}
}

// [MQTT-3.2.2-15]: a PUBLISH above the server's Maximum Packet Size fails
// before it is sent, with both sizes; one that just fits goes; no identifier is
// spent, and the limit ends with the link.
func TestPublishAboveTheMaximumPacketSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 200
		s := scriptWith(t, mqtt.V5, connackMaxPacket(false, limit), mqtt.WithSession(time.Hour))
		for qos := range mqtt.QoS(3) {
			head := 3 + 2 + 1 + 1 // header, topic, properties
			if qos > 0 {
				head += 2
			}
			fits := strings.Repeat("x", limit-head)
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(fits + "x"), QoS: qos})
			tooLarge(t, f.Err(), limit+1, limit)
			m := mqtt.Message{Topic: "t", Payload: []byte(fits), QoS: qos, Properties: &mqtt.Properties{ContentType: "c"}}
			tooLarge(t, s.conn.Publish(t.Context(), m).Err(), limit+4, limit)
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(fits), QoS: qos})
			s.expectPublish(0x30|byte(qos)<<1, uint16(qos), "t", fits)
		}
		s.sendAck(0x40, 1)
		s.finishPublish(2, 2)
		s.recut(server.ConnackPresent)
		big := strings.Repeat("x", 1000)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(big), QoS: 1})
		s.expectPublish(0x32, 3, "t", big)
	})
}

// What was queued or in flight and does not fit the next server is taken
// out, told, and the next one is sent at once.
func TestSmallerPacketLimitOnTheNextLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithMaxInflight(2))
		big := strings.Repeat("x", 100)
		sent := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(big), QoS: 1})
		small := s.conn.Publish(t.Context(), mqtt.Message{Topic: "s", QoS: 1})
		queued := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(big), QoS: 2})
		last := s.conn.Publish(t.Context(), mqtt.Message{Topic: "l", QoS: 1})
		s.expectPublish(0x32, 1, "t", big)
		s.expectPublish(0x32, 2, "s", "")
		s.recut(connackMaxPacket(true, 50))
		s.expectPublish(0x3A, 2, "s", "")
		s.expectPublish(0x32, 3, "l", "") // 1 stays taken: the server may hold a part of the exchange
		tooLarge(t, sent.Err(), 108, 50)
		tooLarge(t, queued.Err(), 108, 50)
		if p, _ := errors.AsType[*mqtt.PublishError](sent.Err()); !p.MayHaveArrived {
			t.Error("sent before, and its error says it was not")
		}
		if p, _ := errors.AsType[*mqtt.PublishError](queued.Err()); p.MayHaveArrived {
			t.Error("never sent, and its error says it may have arrived")
		}
		s.sendAck(0x40, 2)
		s.sendAck(0x40, 3)
		succeeded(t, small)
		succeeded(t, last)
	})
}

// SUBSCRIBE and UNSUBSCRIBE that do not fit are refused and spend no identifier;
// several filters go in as many packets as it takes.
func TestSubscribeAboveTheMaximumPacketSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 40
		s := scriptWith(t, mqtt.V5, connackMaxPacket(false, limit))
		long := strings.Repeat("f", 60)
		_, err := s.conn.Subscribe(t.Context(), long)
		if !errors.Is(err, mqtt.ErrPacketTooLarge) {
			t.Errorf("Subscribe: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.conn.Unsubscribe(ctx, long); !errors.Is(err, mqtt.ErrPacketTooLarge) {
			t.Errorf("Unsubscribe: %v", err)
		}
		s.ExpectNothing(time.Minute)

		filters := []mqtt.Filter{{Pattern: strings.Repeat("a", 20)}, {Pattern: strings.Repeat("b", 20)}, {Pattern: "c"}}
		s.conn.SubscribeMany(t.Context(), filters, mqtt.WithoutWaiting())
		total := 0
		for range 2 {
			p := s.ExpectPacket()
			if p[0] != 0x82 || len(p) > limit {
				t.Errorf("%d bytes: % X", len(p), p)
			}
			total += len(p)
		}
		if total < 44 {
			t.Errorf("%d bytes in all", total)
		}
		s.ExpectNothing(time.Second)
	})
}

// [MQTT-3.14.2-3] [MQTT-3.14.2-4]: a DISCONNECT that does not fit loses its
// reason string, and goes.
func TestDisconnectAboveTheMaximumPacketSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 10))
		go s.conn.Disconnect(t.Context(), mqtt.WithReason(0x04), mqtt.WithReasonString("going home for the day"))
		s.Expect("E0 01 04")
		s.ExpectEOF()
	})
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 10))
		go s.conn.Disconnect(t.Context(), mqtt.WithReasonString("bye"))
		s.Expect("E0 08 00 06 1F 0003 627965")
		s.ExpectEOF()
	})
}

// A queue with a limit in bytes refuses what can never fit.
func TestPublishLargerThanTheQueue(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithQueue(0, 1000, mqtt.QueueWait), mqtt.WithMaxInflight(1))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 1000), QoS: 1})
		tooLarge(t, f.Err(), 1001, 1000)
	})
}
