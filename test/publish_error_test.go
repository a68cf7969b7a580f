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

// The text of a PublishError says what became of the message: not sent, sent and
// refused, or perhaps there.
func TestPublishErrorSaysWhetherItWasSentOrRefused(t *testing.T) {
	refusal := func(p codec.Type) error {
		return &mqtt.ReasonError{Packet: p, Version: mqtt.V5, Code: codec.NotAuthorized}
	}
	for _, c := range []struct {
		err  mqtt.PublishError
		want string
	}{
		{mqtt.PublishError{Topic: "t", Err: mqtt.ErrQueueFull}, `mqtt: publish to "t": outbound queue full (not sent)`},
		{mqtt.PublishError{Err: mqtt.ErrNotConnected}, `mqtt: publish: not connected (not sent)`},
		{mqtt.PublishError{Topic: "t", Err: mqtt.ErrSessionLost, MayHaveArrived: true}, `mqtt: publish to "t": session lost at the server (the server may have it)`},
		{mqtt.PublishError{Topic: "t", Err: mqtt.ErrClosed, Kept: true}, `mqtt: publish to "t": connection closed (not sent; kept in the session store)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.PUBACK)}, `mqtt: publish to "t": PUBACK: Not authorized (0x87) (refused by the server)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.PUBREC)}, `mqtt: publish to "t": PUBREC: Not authorized (0x87) (refused by the server)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.PUBACK), Kept: true}, `mqtt: publish to "t": PUBACK: Not authorized (0x87) (refused by the server; kept in the session store)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.PUBACK), MayHaveArrived: true}, `mqtt: publish to "t": PUBACK: Not authorized (0x87) (the server may have it)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.CONNACK)}, `mqtt: publish to "t": CONNACK: Not authorized (0x87) (not sent)`},
		{mqtt.PublishError{Topic: "t", Err: refusal(codec.DISCONNECT)}, `mqtt: publish to "t": DISCONNECT: Not authorized (0x87) (not sent)`},
	} {
		if c.err.Error() != c.want {
			t.Errorf("%s\nwant %s", c.err.Error(), c.want)
		}
	}
}

// A refusal on the wire, at first and of what was sent on an earlier link too.
func TestRefusedPublishSaysThatItWasRefused(t *testing.T) {
	for qos, ack := range map[mqtt.QoS]string{1: "40 03 0001 87", 2: "50 03 0001 87"} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5)
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: qos})
			s.expectPublish(0x30|byte(qos)<<1, 1, "t", "")
			s.Send(ack)
			if err := outcome(t, f); !containsText(err, "(refused by the server)") {
				t.Errorf("%v", err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: qos})
			s.expectPublish(0x30|byte(qos)<<1, 1, "t", "")
			s.recut(server.ConnackPresent)
			s.expectPublish(0x38|byte(qos)<<1, 1, "t", "")
			s.Send(ack)
			if err := outcome(t, f); !containsText(err, "(the server may have it)") {
				t.Errorf("%v", err)
			}
		})
	}
}

// At QoS 2 Result has what the PUBREC said, also when PUBCOMP reports a failure.
func TestResultAtQoS2IsThatOfThePubrec(t *testing.T) {
	for pubcomp, fails := range map[string]bool{"70 02 0001": false, "70 03 0001 00": false, "70 03 0001 92": true, "70 08 0001 92 04 1F 0001 63": true} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5)
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, 1, "t", "")
			s.Send("50 08 0001 10 04 1F 0001 72")
			s.ExpectBytes(rawAck(0x62, 1))
			if r := f.Result(); r.Code != codec.NoMatchingSubscribers || r.Reason != "r" {
				t.Errorf("after PUBREC: %+v", r)
			}
			s.Send(pubcomp)
			err := outcome(t, f)
			if e, ok := errors.AsType[*mqtt.ReasonError](err); ok != fails || ok && (e.Packet != codec.PUBCOMP || e.Code != codec.PacketIdentifierNotFound) {
				t.Errorf("%s: %v", pubcomp, err)
			}
			if r := f.Result(); r.Code != codec.NoMatchingSubscribers || r.Reason != "r" {
				t.Errorf("after PUBCOMP %s: %+v", pubcomp, r)
			}
		})
	}
}
