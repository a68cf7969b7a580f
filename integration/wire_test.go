package integration

import (
	"bytes"
	"io"
	"strconv"
	"sync"
	"testing"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/tape"
)

// wire is what passed through a proxy: the judge between a client and a broker
// that disagree about a message. Bytes are noted when they were read from the one
// and before they are written to the other, so that every packet stands before
// its answer; the last ones before a cut may not have arrived.
type wire struct {
	mu    sync.Mutex
	links []*wireLink // guarded by mu; in the order of their beginning
}

// wireLink is one connection.
type wireLink struct {
	mu     sync.Mutex
	chunks []wireChunk // guarded by mu
}

type wireChunk struct {
	down  bool // from the broker
	bytes []byte
}

func (w *wire) begin() *wireLink {
	l := &wireLink{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links = append(w.links, l)
	return l
}

// tap returns r with what is read from it noted.
func (l *wireLink) tap(r io.Reader, down bool) io.Reader {
	return io.TeeReader(r, writerFunc(func(p []byte) (int, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.chunks = append(l.chunks, wireChunk{down, bytes.Clone(p)})
		return len(p), nil
	}))
}

type writerFunc func(p []byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// inbound is what the broker sent to one client.
type inbound struct {
	sent  [][]wireMessage     // by link, in order, resends too
	begun map[wireMessage]int // how many exchanges of a message it began
	acked map[wireMessage]int // how often the client acknowledged it: PUBACK or PUBREC

	open map[uint16]wireMessage // by packet identifier: the latest without a PUBREL
}

// wireMessage is a message of a lane.
type wireMessage struct {
	topic string
	n     int
}

// inbound decodes the links of the client with an identifier.
func (w *wire) inbound(t *testing.T, clientID string) inbound {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	in := inbound{begun: map[wireMessage]int{}, acked: map[wireMessage]int{}, open: map[uint16]wireMessage{}}
	for _, l := range w.links {
		in.decode(t, l, clientID)
	}
	return in
}

// decode adds a link, if it is one of the client's.
func (in *inbound) decode(t *testing.T, l *wireLink, clientID string) {
	t.Helper()
	var sent []wireMessage
	mine := l.replay(t, clientID, func(down bool, v codec.Version, f codec.Frame) {
		switch {
		case down && f.Type == codec.PUBLISH:
			m, qos, id := numbered(t, v, f)
			sent = append(sent, m)
			if in.open[id] != m {
				in.begun[m]++
			}
			if qos > 0 {
				in.open[id] = m
			}
		case down && f.Type == codec.PUBREL:
			delete(in.open, ackedID(t, v, f)) // what comes now is new [MQTT-4.3.3-12]
		case !down && (f.Type == codec.PUBACK || f.Type == codec.PUBREC):
			id := ackedID(t, v, f)
			in.acked[in.open[id]]++
			if f.Type == codec.PUBACK {
				delete(in.open, id) // what comes now is new [MQTT-4.3.2-5]
			}
		}
	})
	if mine {
		in.sent = append(in.sent, sent)
	}
}

// outbound is what one client sent to the broker.
type outbound struct {
	sent  [][]wireMessage      // by link, in order, resends too
	acked map[wireMessage]int  // how often the broker acknowledged it: PUBACK
	anew  map[wireMessage]bool // QoS 2: published once more under another identifier, or behind its PUBREL
}

// outbound decodes the links of the client with an identifier.
func (w *wire) outbound(t *testing.T, clientID string) outbound {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := outbound{acked: map[wireMessage]int{}, anew: map[wireMessage]bool{}}
	ids, released := map[wireMessage]uint16{}, map[wireMessage]bool{}
	last := map[uint16]wireMessage{} // over all links, as identifiers are
	for _, l := range w.links {
		var sent []wireMessage
		open := map[uint16]wireMessage{} // the broker answers on the link that asked
		mine := l.replay(t, clientID, func(down bool, v codec.Version, f codec.Frame) {
			switch {
			case !down && f.Type == codec.PUBLISH:
				m, qos, id := numbered(t, v, f)
				sent, open[id] = append(sent, m), m
				if before, known := ids[m]; known && qos == 2 && (before != id || released[m]) {
					out.anew[m] = true
				}
				ids[m], last[id] = id, m
			case !down && f.Type == codec.PUBREL:
				released[last[ackedID(t, v, f)]] = true
			case down && f.Type == codec.PUBACK:
				out.acked[open[ackedID(t, v, f)]]++
			}
		})
		if mine {
			out.sent = append(out.sent, sent)
		}
	}
	return out
}

// disorder counts the messages of a topic that a link carried after a later one.
func (out outbound) disorder(topic string) int {
	n := 0
	for _, sent := range out.sent {
		highest := -1
		for _, m := range sent {
			if m.topic != topic || m.n == endMark {
				continue
			}
			if m.n < highest {
				n++
			}
			highest = max(highest, m.n)
		}
	}
	return n
}

// replay decodes what a link carried after CONNECT, and reports whether the
// client with an identifier made it; the links of others are not shown.
func (l *wireLink) replay(t *testing.T, clientID string, visit func(down bool, v codec.Version, f codec.Frame)) (mine bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	version := codec.V5
	up, down := codec.NewFramer(version, 0), codec.NewFramer(version, 0)
	for _, chunk := range l.chunks {
		framer := up
		if chunk.down {
			framer = down
		}
		frames(t, framer, chunk.bytes, func(f codec.Frame) {
			switch {
			case f.Type == codec.CONNECT:
				var p codec.Connect
				decoded(t, f, p.Decode(f.Body))
				version, mine = p.Version, p.ClientID == clientID
				up.SetVersion(version)
				down.SetVersion(version)
			case mine:
				visit(chunk.down, version, f)
			}
		})
	}
	return mine
}

// numbered decodes a PUBLISH of a lane.
func numbered(t *testing.T, v codec.Version, f codec.Frame) (m wireMessage, qos byte, id uint16) {
	t.Helper()
	var p codec.PublishView
	decoded(t, f, p.Decode(v, f.Flags, f.Body))
	n, _ := strconv.Atoi(string(p.Payload))
	return wireMessage{string(p.Topic), n}, p.QoS, p.PacketID
}

// ackedID decodes an acknowledgement.
func ackedID(t *testing.T, v codec.Version, f codec.Frame) uint16 {
	t.Helper()
	var p codec.Ack
	decoded(t, f, p.Decode(v, f.Type, f.Body))
	return p.PacketID
}

// frames gives a framer bytes and calls f for each packet that is whole.
func frames(t *testing.T, framer *codec.Framer, p []byte, f func(codec.Frame)) {
	t.Helper()
	for r := bytes.NewReader(p); r.Len() > 0; {
		if _, err := framer.Fill(r); err != nil {
			t.Fatalf("the wire: %v", err)
		}
		for {
			frame, ok, err := framer.Next()
			if err != nil {
				t.Fatalf("the wire: %v", err)
			}
			if !ok {
				break
			}
			f(frame)
		}
	}
}

func decoded(t *testing.T, f codec.Frame, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the wire: %s: %v", f.Type, err)
	}
}

// follow is tape.Follow for the messages of a topic.
func (in inbound) follow(topic string, delivered []int) (explained, missed int) {
	sent := make([][]int, len(in.sent))
	for link, messages := range in.sent {
		for _, m := range messages {
			if m.topic == topic {
				sent[link] = append(sent[link], m.n)
			}
		}
	}
	return tape.Follow(sent, delivered)
}
