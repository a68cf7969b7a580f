package mqtt_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// payloadSizes are on both sides of each limit of how payloads are kept: slab,
// copy of their own, beside the buffer by reference.
var payloadSizes = []int{0, 1, 512, 513, 16 << 10, 16<<10 + 1, 100_000}

// The caller may reuse the payload when Publish returns, whatever its size,
// whether it is sent at once, waits in the queue, or is sent again.
func TestPayloadMayBeReused(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, network := serve(t, v, server.Config{}, mqtt.WithMaxInflight(4), mqtt.WithSession(time.Hour))
		buf := make([]byte, 100_000)
		publish := func(qos mqtt.QoS) {
			for _, n := range payloadSizes {
				for i := range buf[:n] {
					buf[i] = byte(n)
				}
				conn.Publish(t.Context(), mqtt.Message{Topic: fmt.Sprint(n), Payload: buf[:n], QoS: qos})
				for i := range buf[:n] {
					buf[i] = 0xEE
				}
			}
		}
		publish(0)
		publish(1)
		publish(2)
		time.Sleep(2 * time.Second)
		srv.Hold(codec.PUBACK, codec.PUBREC)
		publish(1)
		synctest.Wait()
		network.CutAll()
		publish(2)
		srv.Release(nil)
		flush(t, conn)
		got := srv.Received()
		if len(got) != 5*len(payloadSizes) {
			t.Errorf("%d messages", len(got))
		}
		for _, r := range got {
			if n := len(r.Payload); fmt.Sprint(n) != r.Topic || n != bytes.Count(r.Payload, []byte{byte(n)}) {
				t.Errorf("message %s has %d bytes, or others than were given", r.Topic, n)
			}
		}
	})
}

// A payload given away goes by reference, and is the caller's again when the
// Future has resolved, however early the acknowledgement comes: the race
// detector sees a writer that still reads it.
func TestGivenAwayPayload(t *testing.T) {
	network := &server.Network{BufferSize: 64 << 10}
	srv := server.Start(network, server.Config{LogBytes: 1, OnPublish: func(p server.Received) codec.ReasonCode {
		if n := bytes.Count(p.Payload, p.Payload[:1]); n != len(p.Payload) {
			t.Errorf("%d of %d bytes are as they were", n, len(p.Payload))
		}
		return codec.Success
	}})
	defer srv.Close()
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for g := range 3 {
		all.Go(func() {
			payload := make([]byte, 1<<20)
			for round := range chance.Rounds(20, 500) {
				for i := range payload {
					payload[i] = byte(round + g)
				}
				m := mqtt.Message{Topic: "t", Payload: payload, QoS: mqtt.QoS(g)}
				if err := conn.Publish(ctx, m.GiveAway()).Wait(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// watchedConn counts the calls of Write, shows their bytes, and can hold them up.
type watchedConn struct {
	net.Conn
	writes atomic.Int64
	gate   chan struct{} // each Write takes one; nil: none needed
	saw    func(p []byte)
}

func (c *watchedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	if c.gate != nil {
		<-c.gate
	}
	if c.saw != nil {
		c.saw(p)
	}
	return c.Conn.Write(p)
}

// watch makes a dialer whose connection is w.
func watch(n *server.Network, w *watchedConn) mqtt.ConnectOption {
	return mqtt.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := n.Dial(ctx, network, addr)
		w.Conn = c
		return w, err
	})
}

// Throughput: one Write takes all that gathered while the writer was busy; an
// idle writer writes at once, and no timer is involved.
func TestOneWritePerBatch(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		w := &watchedConn{}
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", watch(network, w), mqtt.WithVersions(v), mqtt.WithMaxInflight(2000))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		synctest.Wait()
		start := time.Now()

		at := w.writes.Load()
		succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1}))
		if n := w.writes.Load() - at; n != 1 {
			t.Errorf("%d writes for one publish", n)
		}

		synctest.Wait()
		w.gate = make(chan struct{})
		at = w.writes.Load()
		fs := []*mqtt.Future{conn.Publish(t.Context(), mqtt.Message{Topic: "t"})}
		synctest.Wait() // the writer is busy with it
		for i := range 1000 {
			fs = append(fs, conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 20), QoS: mqtt.QoS(i % 2)}))
		}
		close(w.gate)
		for _, f := range fs {
			succeeded(t, f)
		}
		if n := w.writes.Load() - at; n != 2 {
			t.Errorf("%d writes for one publish and then 1,000", n)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("%v went by: something waited for a timer", d)
		}
	})
}

// Throughput: the acknowledgements of what one read brought leave in one Write.
func TestAcksOfOneReadInOneWrite(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		w := &watchedConn{}
		network := &server.Network{}
		peer := server.NewPeer(t, network)
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", watch(network, w), mqtt.WithVersions(v), mqtt.WithCatchAll(),
			mqtt.WithFirstConnect(mqtt.FirstConnectBackground))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		conn.CatchAll().C()
		wire := peer.Accept(t.Context())
		wire.Handshake(connack(v, false))
		synctest.Wait()
		at := w.writes.Load()
		var in, out []byte
		for id := uint16(1); id <= 20; id++ {
			in = append(in, rawPublish(v, 0x32, id, "t", "x")...)
			out = append(out, rawAck(0x40, id)...)
		}
		wire.SendBytes(in)
		wire.ExpectBytes(out)
		if n := w.writes.Load() - at; n != 1 {
			t.Errorf("%d writes", n)
		}
	})
}
