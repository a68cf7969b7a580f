package broker

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// connectHex is a clean session's CONNECT, client id "raw", keep alive 60 s;
// connackHex how the answer begins on success.
var connects = []struct {
	version          Version
	connect, connack string
}{
	{V31, "10 11 0006 4d5149736470 03 02 003c 0003 726177", "20 02 00 00"},
	{V311, "10 0f 0004 4d515454 04 02 003c 0003 726177", "20 02 00 00"},
	{V5, "10 10 0004 4d515454 05 02 003c 00 0003 726177", "20"},
}

// handshake speaks CONNECT and CONNACK with raw bytes.
func handshake(t *testing.T, b *Broker, v Version, transport Transport) {
	t.Helper()
	conn := dialRaw(t, b, transport)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, c := range connects {
		if c.version != v {
			continue
		}
		if _, err := conn.Write(unhex(t, c.connect)); err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatalf("no CONNACK: %v", err)
		}
		want := unhex(t, c.connack)
		// Byte 2 of a CONNACK's body is the reason code; 5.0's length varies.
		if string(head[:len(want)]) != string(want) || head[3] != 0 {
			t.Fatalf("CONNACK % x, want % x", head, want)
		}
	}
	if _, err := conn.Write(unhex(t, "e0 00")); err != nil {
		t.Fatal(err)
	}
}

func dialRaw(t *testing.T, b *Broker, transport Transport) net.Conn {
	t.Helper()
	conn, err := dial(t.Context(), b, transport)
	if err != nil {
		t.Fatalf("dial %s: %v", transport, err)
	}
	return conn
}

func dial(ctx context.Context, b *Broker, transport Transport) (net.Conn, error) {
	u, err := url.Parse(b.URL(transport))
	if err != nil {
		return nil, err
	}
	switch transport {
	case Unix:
		return new(net.Dialer).DialContext(ctx, "unix", u.Path)
	case TCP:
		return new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	case TLS, MutualTLS:
		return (&tls.Dialer{Config: b.TLSConfig(transport)}).DialContext(ctx, "tcp", u.Host)
	case WS, WSS:
		dialer := websocket.Dialer{Subprotocols: []string{"mqtt"}, TLSClientConfig: b.TLSConfig(transport)}
		conn, response, err := dialer.DialContext(ctx, u.String(), nil)
		if err != nil {
			return nil, err
		}
		if got := response.Header.Get("Sec-WebSocket-Protocol"); got != "mqtt" {
			conn.Close()
			return nil, fmt.Errorf("subprotocol %q", got)
		}
		return &wsConn{Conn: conn.NetConn(), ws: conn}, nil
	}
	return nil, fmt.Errorf("no transport %q", transport)
}

// wsConn reads and writes binary frames; enough for a handshake.
type wsConn struct {
	net.Conn
	ws   *websocket.Conn
	rest []byte
}

func (c *wsConn) Write(p []byte) (int, error) {
	return len(p), c.ws.WriteMessage(websocket.BinaryMessage, p)
}

func (c *wsConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		_, data, err := c.ws.ReadMessage()
		if err != nil {
			return 0, err
		}
		c.rest = data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// handshakes runs every version over every transport the broker claims, and
// returns how many that were.
func handshakes(t *testing.T, b *Broker) int {
	t.Helper()
	ran := 0
	for _, transport := range Transports() {
		for _, v := range Versions() {
			if !b.Supports(v, transport) {
				continue
			}
			ran++
			t.Run(fmt.Sprintf("%s over %s", v, transport), func(t *testing.T) { handshake(t, b, v, transport) })
		}
	}
	return ran
}
