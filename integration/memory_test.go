package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
)

// buffers is by how much those of a link's reader and writer may have grown: they
// keep the size that the largest burst needed. It is less than 7 bytes for each
// message of the shortest run.
const buffers = 512 << 10

// TestHeapAndStoreAreReleased sends messages of QoS 1 and 2 both ways, and subscribes to
// many topics once: heap and store are what they were.
func TestHeapAndStoreAreReleased(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		messages, topics := chance.Amount(40_000, 1_000_000), chance.Amount(2_000, 100_000)
		// Below its own limit Mosquitto 2.0.11 ends links at QoS 2, and without one it
		// sends more than a Receive Maximum of 1,024 allows.
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: -1})
		const warm = 20_000
		sessions := store.NewMemory()
		conn := connect(t, b, broker.Version(v), broker.TCP,
			mqtt.WithClientID("released"), mqtt.WithSession(time.Hour), mqtt.WithStore(sessions),
			mqtt.WithReceiveMaximum(65535))
		echo := subscribe(t, conn, "released", mqtt.QoS(2))
		for qos := mqtt.QoS(1); qos <= 2; qos++ {
			echoes(t, conn, echo, qos, warm) // fills what is kept for reuse
		}
		passing(t, conn, warm/10)
		before := heap()
		for qos := mqtt.QoS(1); qos <= 2; qos++ {
			echoes(t, conn, echo, qos, messages)
		}
		passing(t, conn, topics)
		after := heap()
		t.Logf("%d messages each way at QoS 1 and at QoS 2, %d topics: heap %d KiB before, %d KiB after",
			messages, topics, before>>10, after>>10)
		if after > before+before/20+buffers {
			t.Errorf("heap %d KiB, want at most 5 %% and the buffers' %d KiB above %d KiB", after>>10, buffers>>10, before>>10)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if left := leftIn(t, sessions, "released"); left > 0 {
			t.Errorf("%d records of messages are left in the store", left)
		}
	})
}

// echoes publishes n messages, some at a time, and takes them back.
func echoes(t *testing.T, conn *mqtt.Conn, echo <-chan mqtt.Message, qos mqtt.QoS, n int) {
	t.Helper()
	const atATime = 500
	futures := make([]*mqtt.Future, 0, atATime)
	for done := 0; done < n; done += len(futures) {
		futures = futures[:0]
		for i := range min(atATime, n-done) {
			futures = append(futures, conn.Publish(t.Context(), mqtt.Message{Topic: "released", Payload: mqtt.IntPayload(int64(done + i)), QoS: qos}))
		}
		for range futures {
			receive(t, echo)
		}
		if err := mqtt.WaitAll(t.Context(), futures...); err != nil {
			t.Fatal(err)
		}
	}
}

// passing subscribes to n topics and unsubscribes from each.
func passing(t *testing.T, conn *mqtt.Conn, n int) {
	t.Helper()
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := w; i < n; i += 8 {
				sub, err := conn.Subscribe(t.Context(), fmt.Sprintf("passing/%d/%d", n, i))
				if err == nil {
					err = sub.Unsubscribe(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
}

// leftIn counts the records of a client's session but those about the session as a whole.
func leftIn(t *testing.T, s store.Store, client string) (n int) {
	t.Helper()
	session, err := s.Session(client)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	err = session.Load(func(e store.Entry) error {
		if e.Key.Kind != store.Meta {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	// idleGoroutines and idleHeap are what a Conn may hold that does nothing. The
	// heap includes the server's end of the socket; stacks are not part of it.
	idleGoroutines = 6
	idleHeap       = 24 << 10
)

// TestIdleConnsTakeLittleMemory holds many idle Conns in one process.
func TestIdleConnsTakeLittleMemory(t *testing.T) {
	conns := chance.Amount(500, 5_000)
	url := idleServer(t)
	goroutines, before := runtime.NumGoroutine(), heap()
	var all []*mqtt.Conn
	defer func() {
		for _, conn := range all {
			conn.Abort()
		}
	}()
	for range conns {
		conn, err := mqtt.Connect(context.Background(), url, mqtt.WithVersions(mqtt.V311))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	perHeap := int(heap()-before) / conns
	perConn := float64(runtime.NumGoroutine()-goroutines)/float64(conns) - 1 // the server's
	t.Logf("%d idle Conns: %.2f goroutines and %d bytes of heap each", conns, perConn, perHeap)
	if perConn > idleGoroutines {
		t.Errorf("%.2f goroutines for each Conn, want at most %d", perConn, idleGoroutines)
	}
	if perHeap > idleHeap {
		t.Errorf("%d bytes of heap for each Conn, want at most %d", perHeap, idleHeap)
	}
}

// idleServer accepts every CONNECT, and holds one goroutine for each link.
func idleServer(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var links sync.WaitGroup
	links.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			links.Go(func() {
				defer conn.Close()
				var connect [1]byte
				if _, err := conn.Read(connect[:]); err != nil {
					return
				}
				if _, err := conn.Write([]byte{0x20, 2, 0, 0}); err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		links.Wait()
	})
	return "mqtt://" + ln.Addr().String()
}
