package integration

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store/bolt"
)

const (
	// offlineEnv tells a process that it is one of TestOfflinePublishesOutliveProcess.
	offlineEnv = "MILLRACE_OFFLINE"
	// offlineMemory is how many bytes of payloads stay in memory.
	offlineMemory = 256 << 10
	offlineSize   = 512 // bytes of a payload
	offlineLast   = 100 // messages published when the heap has been measured
)

// offlineTask is what such a process is to do.
type offlineTask struct {
	Version  mqtt.Version
	URL      string
	Path     string // of the store
	Messages int    // to publish; 0 to deliver what is there
}

// run publishes, says how much heap that took and waits to be killed; or it
// delivers and ends.
func (o *offlineTask) run() error {
	// The store's limits take the place of the queue's 65,536 messages and 64 MiB.
	sessions, err := bolt.Open(o.Path, bolt.WithLimits(1_000_000, 1<<30))
	if err != nil {
		return err
	}
	conn, err := mqtt.Connect(context.Background(), o.URL,
		mqtt.WithVersions(o.Version), mqtt.WithClientID("offline"), mqtt.WithSession(time.Hour),
		mqtt.WithStore(sessions), mqtt.WithStoreMemory(offlineMemory),
		mqtt.WithFirstConnect(mqtt.FirstConnectBackground))
	if err != nil {
		return err
	}
	if o.Messages == 0 {
		fmt.Println(heap()) // some of it is delivered by then
		if err := conn.Flush(context.Background()); err != nil {
			return err
		}
		return conn.Close()
	}
	if err := storeOffline(conn, 0, o.Messages-offlineLast); err != nil {
		return err
	}
	used := heap()
	if err := storeOffline(conn, o.Messages-offlineLast, o.Messages); err != nil {
		return err
	}
	fmt.Println(used) // it is killed for that, a moment after the last was stored
	select {}
}

// storeOffline publishes the messages from from on below to, and waits until they
// are stored: commits are in the order of acceptance, so the last speaks for all.
func storeOffline(conn *mqtt.Conn, from, to int) error {
	var last *mqtt.Future
	for n := from; n < to; n++ {
		last = conn.Publish(context.Background(), offlineMessage(n))
	}
	return last.WaitStored(context.Background())
}

// heap returns the heap in use at rest: the least of a second, since what the
// last commit held is let go a moment after the message is stored.
func heap() uint64 {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	least := uint64(math.MaxUint64)
	for range 10 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, m.HeapAlloc)
		<-tick.C
	}
	return least
}

// offlineMessage is of QoS 1 and QoS 2 in turn, each on a topic of its own.
func offlineMessage(n int) mqtt.Message {
	qos := mqtt.QoS(1 + n%2)
	payload := fmt.Appendf(nil, "%d ", n)
	payload = append(payload, bytes.Repeat([]byte("."), offlineSize-len(payload))...)
	return mqtt.Message{Topic: fmt.Sprintf("offline/%d", qos), Payload: payload, QoS: qos}
}

// TestOfflinePublishesOutliveProcess publishes without a server, kills the
// process once the last message is stored, and starts another: all arrive, in
// order, once. Beyond the budget payloads are on disk alone.
func TestOfflinePublishesOutliveProcess(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		messages := chance.Amount(20_000, 200_000)
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: -1})
		// Mosquitto 2.0.11 sends more than a Receive Maximum of 1,024 allows, 2,419 have
		// been seen in flight, and a link on which it does ends [MQTT-3.3.4-9].
		conn := connect(t, b, broker.Version(v), broker.TCP, mqtt.WithReceiveMaximum(65535))
		sub := subscribe(t, conn, "offline/#", mqtt.QoS(2))
		task := offlineTask{Version: v, URL: deadAddress(t), Path: filepath.Join(t.TempDir(), "sessions.db"), Messages: messages}

		begin := time.Now()
		first, storedHeap := task.start(t)
		t.Logf("%d x %d bytes stored in %v, heap %d KiB", messages, offlineSize, time.Since(begin).Round(time.Millisecond), storedHeap>>10)
		if err := first.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = first.Wait() // says that it was killed

		task.URL, task.Messages = b.URL(broker.TCP), 0
		begin = time.Now()
		second, restoredHeap := task.start(t)
		next := [3]int{1: 0, 2: 1}
		for range messages {
			m := receive(t, sub)
			if want := offlineMessage(next[m.QoS]); m.Topic != want.Topic || !bytes.Equal(m.Payload, want.Payload) {
				t.Fatalf("QoS %d: got %.20q... of %d bytes on %s, want %d", m.QoS, m.Payload, len(m.Payload), m.Topic, next[m.QoS])
			}
			next[m.QoS] += 2
		}
		if err := second.Wait(); err != nil {
			t.Errorf("the delivering process: %v", err)
		}
		if len(sub) > 0 {
			t.Errorf("%d messages more than were published", len(sub))
		}
		t.Logf("delivered in %v, heap after the restart %d KiB", time.Since(begin).Round(time.Millisecond), restoredHeap>>10)
		// What a record costs beside its payload is up to 600 bytes of heap; the payloads
		// alone would be above the limit.
		if limit := uint64(messages*650 + offlineMemory + 2<<20); max(storedHeap, restoredHeap) > limit {
			t.Errorf("heap above %d KiB: payloads were to live on disk alone", limit>>10)
		}
	})
}

// start starts the process, and returns the heap that it tells of.
func (o *offlineTask) start(t *testing.T) (cmd *exec.Cmd, heap uint64) {
	t.Helper()
	cmd, line := startChild(t, offlineEnv, o)
	if _, err := fmt.Sscan(line, &heap); err != nil {
		t.Fatalf("the process said %q: %v", line, err)
	}
	return cmd, heap
}

// deadAddress returns an address on which no program listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "mqtt://" + ln.Addr().String()
}
