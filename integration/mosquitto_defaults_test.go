package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
)

// This file runs Mosquitto as Debian configures it against our own defaults.

// debian are the limits of a mosquitto.conf that sets none.
var debian = broker.MosquittoOptions{MaxQueued: 1000}

// Mosquitto 2.0.11 sends more retained messages at once than our Receive Maximum
// allows. The link ends with 0x93 [MQTT-3.3.4-9]; to that server the next ones
// announce 65,535, and all of them come to a consumer that takes 2 ms for each.
func TestMosquittoRetainedBeyondReceiveMaximum(t *testing.T) {
	const messages = 3000
	b := broker.StartMosquitto(t, debian)
	writer := connect(t, b, broker.V5, broker.TCP)
	futures := make([]*mqtt.Future, messages)
	for n := range futures {
		futures[n] = writer.Publish(t.Context(), mqtt.Message{Topic: fmt.Sprintf("r/%d", n), Payload: []byte("x"), QoS: 1, Retain: true})
	}
	for _, f := range futures {
		if err := settled(t, f); err != nil {
			t.Fatal(err)
		}
	}
	reader := connect(t, b, broker.V5, broker.TCP)
	events := reader.Watch(t.Context())
	begin := time.Now()
	ch := subscribe(t, reader, "r/#")
	seen := map[string]bool{}
	for len(seen) < messages {
		seen[receive(t, ch).Topic] = true
		time.Sleep(2 * time.Millisecond) // the consumer's work
	}
	links, told := 0, 0
	for len(events) > 0 {
		switch e := (<-events).(type) {
		case mqtt.Disconnected:
			links++
			t.Logf("a link ended: %v", e.Err)
		case mqtt.ReceiveMaximumExceeded:
			told++
			if e.Announced != 1024 || e.Next != 65535 || e.Advice != "" {
				t.Errorf("%+v", e)
			}
		}
	}
	t.Logf("%v, %d links ended", time.Since(begin).Round(time.Millisecond), links)
	if links > 1 || told != links {
		t.Errorf("%d links ended, told %d times", links, told)
	}
}

// Mosquitto takes 20 messages of a 3.x client at once, and acknowledges and drops,
// or cuts, beyond. With our default window a Future that says nil is true.
func TestMosquittoGetsAllThatItAcknowledgesOn3(t *testing.T) {
	for _, qos := range []mqtt.QoS{1, 2} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			const messages = 3000
			b := broker.StartMosquitto(t, debian)
			// All may be in flight to the reader, so that the broker's queue drops nothing.
			reader := connect(t, b, broker.V5, broker.TCP, mqtt.WithReceiveMaximum(65534))
			ch := subscribe(t, reader, "t", mqtt.QoS(2))
			links := 0
			writer := connect(t, b, broker.V311, broker.TCP, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
				if p.Type == codec.CONNECT {
					links++
				}
			}))
			futures := make([]*mqtt.Future, messages)
			for n := range futures {
				futures[n] = writer.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: mqtt.IntPayload(int64(n)), QoS: qos})
			}
			seen := map[string]bool{}
			for n, f := range futures {
				if err := settled(t, f); err != nil {
					t.Errorf("%d: %v", n, err)
				}
			}
			publish(t, writer, mqtt.Message{Topic: "t", Payload: []byte("last"), QoS: qos})
			for m := receive(t, ch); string(m.Payload) != "last"; m = receive(t, ch) {
				seen[string(m.Payload)] = true
			}
			if len(seen) != messages {
				t.Errorf("%d of %d messages arrived, and every Future said nil", len(seen), messages)
			}
			writer.Close()
			if links != 1 {
				t.Errorf("%d links", links)
			}
		})
	}
}
