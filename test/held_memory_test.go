package mqtt_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// heapHeld returns the bytes of the heap that are in use.
func heapHeld() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The size that a subscription counts for the messages that wait is at least half of the
// memory that they take, whatever they are made of: so the limit of WithPendingLimit bounds
// the memory.
func TestCountedIsHalfOfTheHeap(t *testing.T) {
	users := func(n int, key, value string) []byte {
		p := &codec.Properties{}
		for range n {
			p.User = append(p.User, codec.UserProperty{Key: key, Value: value})
		}
		return codec.AppendProperties(nil, p)[codec.VarintSize(codec.PropertiesSize(p)):]
	}
	texts := &codec.Properties{
		Present:     codec.PropertySet(0).With(codec.PropContentType).With(codec.PropResponseTopic),
		ContentType: string(bytes.Repeat([]byte("c"), 30)), ResponseTopic: string(bytes.Repeat([]byte("r"), 30)),
	}
	data := &codec.Properties{Present: codec.PropertySet(0).With(codec.PropCorrelationData), CorrelationData: make([]byte, 60<<10)}
	encoded := func(p *codec.Properties) []byte {
		return codec.AppendProperties(nil, p)[codec.VarintSize(codec.PropertiesSize(p)):]
	}
	const limit = 4 << 20
	for _, c := range []struct {
		name       string
		qos        byte
		payload    int
		properties []byte
		topic      int // its length; each message has its own when it is more than 1
	}{
		{"1 byte", 0, 1, nil, 1},
		{"1 byte, QoS 1", 1, 1, nil, 1},
		{"1 byte, QoS 2", 2, 1, nil, 1},
		{"1 KiB", 0, 1 << 10, nil, 1},
		{"64 KiB", 0, 64 << 10, nil, 1},
		{"empty user properties", 0, 1, users(1000, "", ""), 1},
		{"one user property", 0, 1, users(1, "", ""), 1},
		{"long user properties", 0, 1, users(2, "k", string(bytes.Repeat([]byte("x"), 5000))), 1},
		{"60 KiB of correlation data", 0, 1, encoded(data), 1},
		{"two texts", 1, 1, encoded(texts), 1},
		{"topics of their own", 0, 1, nil, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V5, mqtt.WithReceiveMaximum(65_535))
				sub := s.subscribed("#", 2, mqtt.WithPendingLimit(1<<20, limit))
				before := heapHeld()
				for i := 0; i < 60_000 && sub.Stats().PendingBytes < limit*9/10; i += 100 {
					var packets []byte
					for n := i; n < i+100; n++ {
						topic := "t"
						if c.topic > 1 {
							topic = fmt.Sprintf("%0*d", c.topic, n)
						}
						packets = append(packets, rawPublishWith(0x30|c.qos<<1, uint16(n+1), topic, c.properties, make([]byte, c.payload))...)
					}
					s.SendBytes(packets)
					synctest.Wait()
				}
				counted, held := sub.Stats().PendingBytes, heapHeld()-before
				t.Logf("%d messages: %d KiB counted, %d KiB held", sub.Stats().Pending, counted>>10, held>>10)
				if counted < limit/4 || held > 2*counted+128<<10 {
					t.Errorf("%d messages: %d KiB counted, %d KiB held", sub.Stats().Pending, counted>>10, held>>10)
				}
				runtime.KeepAlive(s)
			})
		})
	}
}

// A message that waits does not hold the memory of messages that came beside it and are
// gone.
func TestWaitingMessagesHoldNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		slow := s.subscribed("slow", 0, mqtt.WithPendingLimit(1<<20, 0))
		fast := s.subscribed("fast", 0)
		ch := fast.C()
		before := heapHeld()
		const messages = 20_000
		for range messages / 10 {
			var packets []byte
			for range 10 {
				packets = append(packets, rawPublish(mqtt.V5, 0x30, 0, "slow", "1")...)
				packets = append(packets, rawPublish(mqtt.V5, 0x30, 0, "fast", string(make([]byte, 1000)))...)
			}
			s.SendBytes(packets)
			synctest.Wait()
			for len(ch) > 0 {
				<-ch
			}
		}
		counted, held := slow.Stats().PendingBytes, heapHeld()-before
		t.Logf("%d KiB counted, %d KiB held", counted>>10, held>>10)
		if slow.Stats().Pending != messages || held > 2*counted+128<<10 {
			t.Errorf("%d messages: %d KiB counted, %d KiB held", slow.Stats().Pending, counted>>10, held>>10)
		}
		runtime.KeepAlive(s)
	})
}
