package mqtt_test

import (
	"testing"
	"time"

	"github.com/millrace/mqtt"
)

// By default 20 publishes are in flight on 3.x, what Mosquitto takes there, and
// 1,024 on 5.0 to a server that allows more.
func TestDefaultWindow(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		want := 20
		if v == mqtt.V5 {
			want = 1024
		}
		s := script(t, v)
		for n := range want + 10 {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(1 + n%2)})
		}
		for n := range want {
			s.expectPublish(byte(0x32+2*(n%2)), uint16(n+1), "t", "")
		}
		s.ExpectNothing(time.Minute)
		s.sendAck(0x40, 1)
		s.expectPublish(byte(0x32+2*(want%2)), uint16(want+1), "t", "")
	})
}

// A window that was asked for is used on 3.x too.
func TestWindowAskedForOn3(t *testing.T) {
	in3(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(100))
		for range 150 {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		}
		for n := range 100 {
			s.expectPublish(0x32, uint16(n+1), "t", "")
		}
		s.ExpectNothing(time.Minute)
	})
}
