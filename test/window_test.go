package mqtt_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// [MQTT-3.3.4-7] [MQTT-3.3.4-8] [MQTT-4.9.0-1] to [MQTT-4.9.0-3]: at most
// Receive Maximum unacknowledged; QoS 0, PUBREL, SUBSCRIBE and pings never wait.
func TestFullWindowHoldsPublishOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, "20 06 00 00 03 21 0002", mqtt.WithKeepAlive(5*time.Second)) // Receive Maximum 2
		for range 3 {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		}
		s.expectPublish(0x34, 1, "t", "")
		s.expectPublish(0x34, 2, "t", "")
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "0"})
		s.expectPublish(0x30, 0, "0", "")
		s.sendAck(0x50, 1)
		s.ExpectBytes(rawAck(0x62, 1)) // and no PUBLISH: PUBREC does not give the quota back
		s.conn.Subscribe(t.Context(), "f", mqtt.WithoutWaiting())
		s.Expect("82 ?? ???? 02 0B 01 0001 66 01")
		s.Expect("C0 00")
		s.Send("D0 00")
		s.sendAck(0x70, 1)
		s.expectPublish(0x34, 4, "t", "")
		s.Send("50 03 0002 97") // Quota Exceeded: PUBREC with an error gives the quota back
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "u", QoS: 1})
		s.expectPublish(0x32, 5, "u", "")
	})
}

// A window of 500 resumes in the steps of a smaller Receive Maximum, in order,
// and what is new waits behind it.
func TestWindowResumesInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		const n = 500
		for i := range n {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(1 + i%2)})
			s.expectPublish(byte(0x32+i%2*2), uint16(i+1), "t", "")
		}
		s.sendAck(0x50, 500)
		s.ExpectBytes(rawAck(0x62, 500))
		s.recut("20 06 01 00 03 21 000A")
		late := s.conn.Publish(t.Context(), mqtt.Message{Topic: "late", QoS: 1})
		s.ExpectBytes(rawAck(0x62, 500)) // takes no quota
		s.sendAck(0x70, 500)             // and gives none
		for i := range 10 {
			s.expectPublish(byte(0x3A+i%2*2), uint16(i+1), "t", "")
		}
		for i := range n - 1 {
			s.ExpectNothing(time.Second)
			id := uint16(i + 1)
			if i%2 == 0 {
				s.sendAck(0x40, id)
			} else {
				s.finishPublish(2, id)
			}
			if i+10 < n-1 {
				s.expectPublish(byte(0x3A+i%2*2), id+10, "t", "")
			} else if i+10 == n-1 {
				s.expectPublish(0x32, 501, "late", "")
			}
		}
		s.sendAck(0x40, 501)
		succeeded(t, late)
	})
}

// A PUBREL to be sent again does not wait behind PUBLISHes that wait for quota.
func TestPubrelNeverWaitsForTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		for i := range 3 {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, uint16(i+1), "t", "")
		}
		s.sendAck(0x50, 3)
		s.ExpectBytes(rawAck(0x62, 3))
		s.recut("20 06 01 00 03 21 0001")
		s.ExpectBytes(rawAck(0x62, 3))
		s.expectPublish(0x3C, 1, "t", "")
		s.ExpectNothing(time.Minute)
		s.sendAck(0x70, 3)
		s.ExpectNothing(time.Minute)
	})
}

// Publishers that wait for a place proceed as space allows, first come
// first served, whatever their sizes.
func TestPublishersWaitInOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithMaxInflight(3), mqtt.WithQueue(5, 4096, mqtt.QueueWait))
		srv.Hold(codec.PUBACK)
		const n = 100
		results := make(chan error, n)
		for i := range n {
			payload := make([]byte, 4+i*97%2000)
			copy(payload, fmt.Sprintf("%04d", i))
			go func() {
				results <- conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: payload, QoS: 1}).Wait(t.Context())
			}()
			synctest.Wait()
		}
		srv.Release(nil)
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		for i, r := range srv.Received() {
			if got := string(r.Payload[:4]); got != fmt.Sprintf("%04d", i) {
				t.Fatalf("message %s came as number %d", got, i)
			}
		}
	})
}

// What an earlier process left open is sent again within the window of this
// one, PUBREL without it, and what is new waits behind.
func TestRestoredWindowIsSentInSteps(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := written(t, v).script(t, v, true, mqtt.WithMaxInflight(1))
		s.conn.Publish(t.Context(), keyed("new", 1))
		s.ExpectBytes(rawAck(0x62, 4))
		s.expectPublish(0x3A, 1, "t", "a")
		s.sendAck(0x70, 4) // gives no quota
		s.ExpectNothing(time.Minute)
		s.sendAck(0x40, 1)
		s.expectPublish(0x3C, 2, "t", "b")
		s.sendAck(0x50, 2)
		s.ExpectBytes(rawAck(0x62, 2))
		s.ExpectNothing(time.Minute)
		s.sendAck(0x70, 2)
		s.expectPublish(0x3A, 3, "t", "c")
		s.ExpectNothing(time.Minute)
		s.sendAck(0x40, 3)
		s.expectPublish(0x32, 5, "t", "new")
	})
}
