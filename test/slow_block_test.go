package mqtt_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// blockMessages of blockSize bytes of payload are 25 times what the subscription may hold.
const (
	blockMessages = 200_000
	blockSize     = 1 << 10
	blockLimit    = 8 << 20 // bytes that the subscription may hold
)

// A subscription that blocks, whose consumer stalls for a minute while
// a server without limits of its own sends, stays within its limit in bytes and
// then takes every QoS 0 message. Pings go on meanwhile.
func TestSlowBlockTakesAll(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { stallAndTakeAll(t, v) })
		})
	}
}

func stallAndTakeAll(t *testing.T, v mqtt.Version) {
	d := dial(t, mqtt.WithVersions(v), mqtt.WithKeepAlive(10*time.Second),
		mqtt.WithSubscription("t", mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithPendingLimit(0, blockLimit)))
	messages := d.conn.Subscription("t").C()
	w := d.up(connack(v, false))
	if err := w.Conn().SetDeadline(time.Time{}); err != nil { // the script's own
		t.Fatal(err)
	}
	pings := make(chan struct{}, 64) // more than a minute has
	go answerSubscribe(w, v, pings)
	synctest.Wait()
	before := heapInUse()
	go flood(w, v, pings)

	synctest.Wait()
	time.Sleep(time.Minute)
	// Beside the limit: the channel, one read's worth of packets, and the network.
	const slack = 256*2*blockSize + 1<<20 + server.DefaultBufferSize
	if grown := int64(heapInUse()) - int64(before); grown > blockLimit+slack {
		t.Errorf("the heap grew by %d KiB during the stall, the limit is %d KiB", grown>>10, blockLimit>>10)
	}
	if st := d.conn.Subscription("t").Stats(); st.PendingBytes > blockLimit+2*blockSize {
		t.Errorf("%d bytes are pending, the limit is %d", st.PendingBytes, blockLimit)
	}
	if s := d.conn.State(); s != mqtt.StateConnected {
		t.Errorf("state %v after the stall, want connected", s)
	}
	for n := range blockMessages {
		m := <-messages
		text, _, _ := strings.Cut(string(m.Payload), " ")
		if got, err := strconv.Atoi(text); err != nil || got != n {
			t.Fatalf("message %q came, want %d", text, n)
		}
	}
	if st := d.conn.Subscription("t").Stats(); st.Dropped != 0 {
		t.Errorf("%d messages were dropped", st.Dropped)
	}
	d.conn.Abort()
}

// answerSubscribe takes what the client sends, and tells of its pings.
func answerSubscribe(w *server.Wire, v mqtt.Version, pings chan<- struct{}) {
	defer close(pings)
	buf := make([]byte, 4<<10)
	for {
		n, err := w.Conn().Read(buf)
		if err != nil {
			return
		}
		switch b := buf[:n]; b[0] {
		case 0x82:
			ack := []byte{0x90, 3, b[2], b[3], 1}
			if v == mqtt.V5 {
				ack = []byte{0x90, 4, b[2], b[3], 0, 1}
			}
			_, _ = w.Conn().Write(ack)
		case 0xC0:
			pings <- struct{}{}
		}
	}
}

// flood sends all messages as fast as the client reads, and answers pings between them.
func flood(w *server.Wire, v mqtt.Version, pings <-chan struct{}) {
	filler := strings.Repeat("x", blockSize)
	for n := range blockMessages {
		text := strconv.Itoa(n) + " "
		packet := rawPublish(v, 0x30, 0, "t", text+filler[len(text):])
		select {
		case <-pings:
			packet = append(packet, 0xD0, 0)
		default:
		}
		if _, err := w.Conn().Write(packet); err != nil {
			return
		}
	}
	for range pings {
		if _, err := w.Conn().Write([]byte{0xD0, 0}); err != nil {
			return
		}
	}
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
