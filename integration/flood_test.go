package integration

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// The flood's messages have 2,000 bytes, and 10 of them leave every millisecond:
// 10,000 a second, if the broker takes them as fast.
const (
	floodTopic = "flood"
	floodSize  = 2000
	floodRate  = 10_000
	floodEvery = time.Millisecond
	floodIDs   = 1000 // packet identifiers, used in turn
)

// startFlood publishes to floodTopic until the test ends. It writes bytes that were
// made once, so that the test's process has time for what is tested.
func startFlood(t *testing.T, b *broker.Broker, qos mqtt.QoS) {
	t.Helper()
	u, err := url.Parse(b.URL(broker.TCP))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	// CONNECT in 3.1.1, clean session, no keep alive, client identifier "flood".
	if _, err := conn.Write([]byte("\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05flood")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { _, _ = io.Copy(io.Discard, conn) }) // the CONNACK and PUBACKs
	work.Go(func() {
		tick := time.NewTicker(floodEvery)
		defer tick.Stop()
		message := floodMessages(qos)
		for begin, sent := time.Now(), 0; ; {
			select {
			case <-tick.C:
			case <-done:
				return
			}
			due := int(time.Since(begin) * floodRate / time.Second)
			for ; sent < due; sent++ {
				if _, err := conn.Write(message[sent%floodIDs]); err != nil {
					return
				}
			}
		}
	})
	t.Cleanup(func() {
		close(done)
		conn.Close()
		work.Wait()
	})
}

// floodMessages are PUBLISH packets, each with an identifier of its own. When one is
// used again it was acknowledged long ago.
func floodMessages(qos mqtt.QoS) (messages [floodIDs][]byte) {
	for i := range messages {
		body := append([]byte{0, byte(len(floodTopic))}, floodTopic...)
		if qos > 0 {
			body = binary.BigEndian.AppendUint16(body, uint16(i+1))
		}
		body = append(body, bytes.Repeat([]byte{'.'}, floodSize)...)
		header := binary.AppendUvarint([]byte{0x30 | byte(qos)<<1}, uint64(len(body))) // MQTT's variable byte integer is the same
		messages[i] = append(header, body...)
	}
	return messages
}
