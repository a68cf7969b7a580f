package mqtt_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Whatever is published without a link, the queue takes the memory of its limit and
// the records of what is in it, under each policy that does not wait.
func TestOfflineQueueMemoryIsBounded(t *testing.T) {
	const (
		limit   = 4 << 20
		payload = 4000
		records = limit / payload * 1000 // what stands beside a payload
	)
	for _, policy := range []mqtt.QueuePolicy{mqtt.QueueFail, mqtt.QueueDropOldest, mqtt.QueueDropNewest} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &server.Network{}
				network.RefuseDials(-1, nil)
				conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial),
					mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithBackoff(steady(time.Hour)),
					mqtt.WithQueue(0, limit, policy))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				before := heap()
				for i := range 10 * limit / payload {
					conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, payload), QoS: mqtt.QoS(1 + i%2)})
				}
				synctest.Wait()
				used := int64(heap()) - int64(before)
				t.Logf("%d bytes in use, limit %d", used, limit)
				if used > limit+records || used < limit/2 {
					t.Errorf("%d bytes in use for a queue of %d", used, limit)
				}
				if s := conn.Stats(); s.QueuedBytes > limit {
					t.Errorf("%d bytes queued", s.QueuedBytes)
				}
			})
		})
	}
}
