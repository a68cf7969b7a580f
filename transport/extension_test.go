package transport

import (
	"errors"
	"io"
	"net"
	"testing"
)

// A server that compresses without having been asked could make a large message of a small
// one, and would have ours compressed: the connection is refused.
func TestExtensionThatWasNotOffered(t *testing.T) {
	tests := []struct {
		header string // of the answer
		chosen string // empty: accepted
	}{
		{"", ""},
		{"Sec-WebSocket-Extensions: \r\n", ""},
		{"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"Sec-WebSocket-Extensions: permessage-deflate\r\n", "permessage-deflate"},
		{"sec-websocket-extensions: a\r\nSec-WebSocket-Extensions: b\r\n", "a, b"},
	}
	for _, tt := range tests {
		n := newMemNet(t)
		n.handlers["broker.test:80"] = func(conn net.Conn) {
			_, _ = acceptWS(&insertHeader{Conn: conn, header: tt.header}, "mqtt")
			_, _ = io.Copy(io.Discard, conn)
		}
		d := Dialer{DialFunc: n.dial}
		conn, err := d.Dial(t.Context(), mustParse(t, "ws://broker.test"))
		bad, refused := errors.AsType[*ExtensionError](err)
		if refused != (tt.chosen != "") || refused && bad.Chosen != tt.chosen || !refused && err != nil {
			t.Errorf("answer with %q: got %v", tt.header, err)
		}
		if conn != nil {
			conn.Close()
		}
		n.mustAllBeClosed()
	}
}

// insertHeader adds lines behind the first line that is written.
type insertHeader struct {
	net.Conn
	header string
}

func (c *insertHeader) Write(p []byte) (int, error) {
	const first = "HTTP/1.1 101 Switching Protocols\r\n"
	_, err := c.Conn.Write([]byte(first + c.header + string(p[len(first):])))
	return len(p), err
}

// WriteString keeps io.WriteString from passing by Write.
func (c *insertHeader) WriteString(s string) (int, error) { return c.Write([]byte(s)) }
