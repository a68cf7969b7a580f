package transport

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/gorilla/websocket"
)

// readingConn is a WebSocketConn past its handshake whose peer sent wire; a
// full dial for each of the thousands of splits would only cost time.
func readingConn(wire []byte) *WebSocketConn {
	peer := &playback{in: bytes.NewReader(wire)}
	g := newGate(peer)
	return newWebSocketConn(gorillaClient(g), g, peer)
}

// gorillaClient gets gorilla's client for g through a handshake of its own.
func gorillaClient(g *gate) *websocket.Conn {
	a, b := memPair()
	go func() { _, _ = acceptWS(b, "") }()
	stand := &switchable{Conn: a}
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return stand, nil }}
	ws, _, err := d.Dial("ws://playback", nil)
	if err != nil {
		panic(err) // memory cannot fail
	}
	stand.Conn = g
	return ws
}

// switchable changes its connection after the handshake.
type switchable struct{ net.Conn }

type playback struct {
	memConn
	in    *bytes.Reader
	wrote bool
}

func (p *playback) Write(b []byte) (int, error) { p.wrote = true; return len(b), nil }
func (p *playback) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *playback) Close() error                { return nil }

// Whatever the peer sends after its 101: Read ends with an error or at the end
// of the input, gives no more than was sent, and never panics or writes.
func FuzzWebSocketRead(f *testing.F) {
	f.Add(frame(opBinary, true, []byte("\x20\x02\x00\x00")))
	f.Add(append(frame(opBinary, false, []byte("ab")), append(frame(opPing, true, []byte("p")), frame(opContinue, true, []byte("c"))...)...))
	f.Add(frame(opClose, true, []byte("\x03\xe8bye")))
	f.Add(frame(opText, true, []byte("x")))
	f.Add([]byte("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		c := readingConn(wire)
		got, _ := io.ReadAll(c)
		if len(got) > len(wire) {
			t.Fatalf("%d bytes out of %d", len(got), len(wire))
		}
		if peer := c.raw.(*playback); peer.wrote {
			t.Fatal("the reader wrote")
		}
	})
}
