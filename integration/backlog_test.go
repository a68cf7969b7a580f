package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
)

// TestMosquittoBacklogArrivesInOrder: a process goes, messages queue at the broker beyond
// its limit of messages in flight, the next process subscribes after Connect or
// at Connect, and has all of them in order.
func TestMosquittoBacklogArrivesInOrder(t *testing.T) {
	b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: 10})
	for _, v := range broker.Versions() {
		for _, declare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s declared %t", v, declare), func(t *testing.T) {
				kept := []mqtt.ConnectOption{mqtt.WithClientID(fmt.Sprintf("kept%d%t", v, declare)), mqtt.WithSession(time.Hour)}
				topic := fmt.Sprintf("backlog/%d/%t", v, declare)
				former := connect(t, b, v, broker.TCP, kept...)
				subscribe(t, former, topic, mqtt.QoS(2))
				former.Close()

				writer := connect(t, b, v, broker.TCP)
				for i := range 100 {
					publish(t, writer, mqtt.Message{Topic: topic, Payload: mqtt.IntPayload(int64(i)), QoS: mqtt.QoS(1 + i%2)})
				}
				if declare {
					kept = append(kept, mqtt.WithSubscription(topic, mqtt.QoS(2)))
				}
				arrived := make(chan struct{}, 100)
				next := connect(t, b, v, broker.TCP, append(kept, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
					if p.Type == codec.PUBLISH {
						arrived <- struct{}{}
					}
				}))...)
				var ch <-chan mqtt.Message
				if declare {
					ch = next.Subscription(topic).C()
				} else {
					for range 10 { // all that the broker sends without an acknowledgement
						within(t, "the backlog", arrived)
					}
					ch = subscribe(t, next, topic, mqtt.QoS(2))
				}
				for i := range 100 {
					if m := receive(t, ch); string(m.Payload) != fmt.Sprint(i) {
						t.Fatalf("got %q, want %d", m.Payload, i)
					}
				}
				if s := next.Stats(); s.Unmatched != 0 || s.Held != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}
