package integration

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// TestMatrix sends payloads of every size to a broker and back, at every QoS,
// over every transport and in every version, as far as each broker supports it.
// The table that it logs says what ran where.
func TestMatrix(t *testing.T) {
	runs := matrix{}
	brokers := []func(t *testing.T) *broker.Broker{
		func(t *testing.T) *broker.Broker { return broker.StartMosquitto(t, broker.MosquittoOptions{}) },
		func(t *testing.T) *broker.Broker { return broker.StartMochi(t, broker.MochiOptions{}) },
		func(t *testing.T) *broker.Broker { return broker.StartNATS(t, broker.NATSOptions{}) },
		// One nats-server has one listener of a kind, with TLS or without.
		func(t *testing.T) *broker.Broker { return broker.StartNATS(t, broker.NATSOptions{TLS: true}) },
	}
	payloads := matrixPayloads()
	for i, start := range brokers {
		t.Run(fmt.Sprintf("broker=%d", i), func(t *testing.T) {
			b := start(t)
			for _, v := range broker.Versions() {
				for _, over := range broker.Transports() {
					if b.Supports(v, over) {
						t.Run(fmt.Sprintf("%s/%s/%s", b.Name(), v, over), func(t *testing.T) {
							runs.note(b, v, over, roundTrips(t, b, v, over, payloads))
						})
					}
				}
			}
		})
	}
	t.Logf("payloads that came back at QoS 0 + 1 + 2 (of %d each; -: not offered by the broker; *: the largest came back over TCP)\n%s",
		len(payloads), runs.table())
}

// matrixPayloads are empty, one byte, and sizes that need several reads, writes
// and WebSocket frames; random, so that a byte in the wrong place shows.
func matrixPayloads() [][]byte {
	random := rand.NewChaCha8([32]byte{'m', 'a', 't', 'r', 'i', 'x'})
	var payloads [][]byte
	for _, size := range []int{0, 1, 64 << 10, 5 << 20} {
		p := make([]byte, size)
		random.Read(p)
		payloads = append(payloads, p)
	}
	return payloads
}

// roundTrips returns how many payloads came back at each QoS.
func roundTrips(t *testing.T, b *broker.Broker, v broker.Version, over broker.Transport, payloads [][]byte) (count [3]int) {
	conn := connect(t, b, v, over)
	if got := conn.Version(); got != mqtt.Version(v) {
		t.Fatalf("the link speaks %s", got)
	}
	back := conn
	if stallsLarge(b, over) {
		back = connect(t, b, v, broker.TCP)
	}
	prefix := fmt.Sprintf("matrix/%d/%s/", v, over)
	small := subscribe(t, conn, prefix+"small", mqtt.QoS(2))
	large := subscribe(t, back, prefix+"large", mqtt.QoS(2))
	for qos := range mqtt.QoS(3) {
		for _, payload := range payloads {
			topic, messages := prefix+"small", small
			if len(payload) > largeFrame {
				topic, messages = prefix+"large", large
			}
			publish(t, conn, mqtt.Message{Topic: topic, Payload: payload, QoS: qos})
			m := receive(t, messages)
			switch {
			case m.Topic != topic || m.QoS != qos:
				t.Fatalf("sent %q at QoS %d, received %q at QoS %d", topic, qos, m.Topic, m.QoS)
			case !bytes.Equal(m.Payload, payload):
				t.Fatalf("%d bytes at QoS %d came back as %d others", len(payload), qos, len(m.Payload))
			}
			count[qos]++
		}
	}
	return count
}

// largeFrame is more than the 64 KiB payload and its header.
const largeFrame = 65 << 10

// stallsLarge tells whether a broker does not get a large message out over a
// transport. Mosquitto 2.0.11 on libwebsockets stops in a frame above its
// socket's send buffer (128 KiB and a little), whoever the client is: one of
// gorilla/websocket alone sees the same. Large payloads sent there over
// WebSocket are received over TCP.
func stallsLarge(b *broker.Broker, over broker.Transport) bool {
	return b.Name() == "mosquitto" && (over == broker.WS || over == broker.WSS)
}

// matrix counts round trips by "broker version", transport and QoS.
type matrix map[string]map[broker.Transport]string

func (m matrix) note(b *broker.Broker, v broker.Version, over broker.Transport, count [3]int) {
	row := b.Name() + "\t" + v.String()
	if m[row] == nil {
		m[row] = map[broker.Transport]string{}
	}
	cell := fmt.Sprintf("%d+%d+%d", count[0], count[1], count[2])
	if stallsLarge(b, over) {
		cell += "*"
	}
	m[row][over] = cell
}

// table has a row for each broker and version, and in each cell the round trips
// at QoS 0, 1 and 2.
func (m matrix) table() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "broker\tversion")
	for _, over := range broker.Transports() {
		fmt.Fprintf(w, "\t%s", over)
	}
	for _, row := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(w, "\n%s", row)
		for _, over := range broker.Transports() {
			fmt.Fprintf(w, "\t%s", cmp.Or(m[row][over], "-"))
		}
	}
	w.Flush()
	return text.String()
}
