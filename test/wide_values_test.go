package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// Four bytes of the wire do not fit an int of 32 bits: a server that takes packets of
// up to 4,294,967,295 bytes takes every packet (section 3.2.2.3.6).
func TestLargestMaximumPacketSize(t *testing.T) {
	for _, size := range []string{"FFFFFFFF", "80000000", "10000004"} {
		t.Run(size, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := scriptWith(t, mqtt.V5, "20 08 00 00 05 27 "+size, mqtt.WithSession(time.Hour))
				if max := await[mqtt.Connected](t, s.conn.Events()).MaximumPacketSize; max != 268_435_460 {
					t.Errorf("maximum packet size %d", max)
				}
				f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
				s.expectPublish(0x32, 1, "t", "")
				s.sendAck(0x40, 1)
				succeeded(t, f)
				s.subscribed("t", 1)
			})
		})
	}
}
