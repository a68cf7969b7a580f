//go:build !race

package mqtt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Receiving into a channel allocates nothing for each message but its part of a
// payload slab.
func TestAllocsReceive(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		for qos := range byte(2) {
			t.Run(fmt.Sprintf("%s QoS %d", v, qos), func(t *testing.T) { allocsReceive(t, v, qos) })
		}
	}
}

func allocsReceive(t *testing.T, v mqtt.Version, qos byte) {
	client, peer := server.Pipe(1 << 20)
	defer peer.Close()
	dial := sync.OnceValue(func() net.Conn { return client })
	// The CONNACK is there before the question.
	if _, err := peer.Write(server.Hex(connack(v, false))); err != nil {
		t.Fatal(err)
	}
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(v), mqtt.WithKeepAlive(-1), mqtt.WithClientID("c"),
		mqtt.WithAckOverdue(time.Hour), mqtt.WithSubscribeTimeout(time.Hour),
		mqtt.WithDialer(dialTo(dial)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Abort()
	go io.Copy(io.Discard, peer) // every identifier is free again by its next turn
	sub, err := conn.Subscribe(t.Context(), "t/+", mqtt.WithoutWaiting(), mqtt.WithImmediateDelivery())
	if err != nil {
		t.Fatal(err)
	}
	suback := server.Hex("90 03 0001 01")
	if v == mqtt.V5 {
		suback = server.Hex("90 04 0001 00 01")
	}
	const few, many = 20, 220
	packets := make([]byte, 0, 64*many)
	id := uint16(0)
	round := func(batch int) {
		packets = packets[:0]
		for range batch {
			id = id%1000 + 1
			packets = appendMessage(packets, v, qos, id)
		}
		if _, err := peer.Write(packets); err != nil {
			t.Fatal(err)
		}
		for range batch {
			if m := <-sub.C(); len(m.Payload) != 16 {
				t.Fatal("not the message")
			}
		}
	}
	peer.Write(suback)
	<-sub.Ready()
	for range 50 {
		round(many)
	}
	// What a batch costs is the network's; a slab of 8 KiB serves 512 payloads.
	base := testing.AllocsPerRun(200, func() { round(few) })
	if n := testing.AllocsPerRun(200, func() { round(many) }); n > base+1 {
		t.Errorf("%.0f allocations for %d messages, %.0f for %d", n, many, base, few)
	}
}

// dialTo is a dialer hook that always gives one connection.
func dialTo(conn func() net.Conn) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return conn(), nil }
}

// appendMessage appends a PUBLISH of 16 bytes, on 5.0 with a subscription identifier.
func appendMessage(dst []byte, v mqtt.Version, qos byte, id uint16) []byte {
	at := len(dst)
	dst = append(dst, 0x30|qos<<1, 0, 0, 3, 't', '/', '1')
	if qos > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	if v == mqtt.V5 {
		dst = append(dst, 2, 0x0B, 1)
	}
	dst = append(dst, "0123456789abcdef"...)
	dst[at+1] = byte(len(dst) - at - 2)
	return dst
}
