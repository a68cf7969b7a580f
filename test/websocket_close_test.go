package mqtt_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/transport"
)

// webPeer is the server's end of a WebSocket in raw bytes.
type webPeer struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// serveWeb upgrades every connection to ws://server and has play go on with it.
func serveWeb(t *testing.T, network *server.Network, play func(n int, p *webPeer)) {
	t.Helper()
	ln := listen(t, network, "server:80")
	t.Cleanup(func() { ln.Close() })
	go func() { // ends when the listener closes
		for n := 1; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			p := &webPeer{Conn: nc, t: t, in: bufio.NewReader(nc)}
			if p.upgrade() == nil {
				play(n, p)
			}
			nc.Close()
		}
	}()
}

func (p *webPeer) upgrade() error {
	r, err := http.ReadRequest(p.in)
	if err != nil {
		return err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = io.WriteString(p, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(sum[:])+"\r\n\r\n")
	return err
}

// frame reads one frame of the client's and returns its first byte and its payload;
// 0 at the end of the connection.
func (p *webPeer) frame() (first byte, payload []byte) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(p.in, head); err != nil {
		return 0, nil
	}
	size := uint64(head[1] & 0x7F)
	if extra := map[uint64]int{126: 2, 127: 8}[size]; extra > 0 {
		long := make([]byte, 8)
		io.ReadFull(p.in, long[8-extra:])
		size = binary.BigEndian.Uint64(long)
	}
	masked := make([]byte, 4+size)
	if _, err := io.ReadFull(p.in, masked); err != nil {
		return 0, nil
	}
	mask, payload := masked[:4], masked[4:]
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return head[0], payload
}

// send sends packets, given in hex, as one message of up to 125 bytes.
func (p *webPeer) send(packets string) { p.sendBytes(server.Hex(packets)) }

func (p *webPeer) sendBytes(b []byte) { p.Write(append([]byte{0x82, byte(len(b))}, b...)) }

func (p *webPeer) close(payload string) {
	p.Write(append([]byte{0x88, byte(len(payload))}, payload...))
}

// closeFrames are what a server may say when it closes a WebSocket: the payload of the frame, and
// what is to be known of it.
var closeFrames = []struct {
	payload string
	code    int
	text    string
}{
	{"\x03\xe8", 1000, ""},
	{"\x03\xe8bye", 1000, "bye"},
	{"\x03\xe9", 1001, ""},
	{"\x03\xe9shutting down", 1001, "shutting down"},
	{"\x03\xf0bad token", 1008, "bad token"},
	{"\x0f\xa1quota", 4001, "quota"},
	{"", 1005, ""},
}

// A server that closes the WebSocket instead of a CONNACK says why in its close frame. Only one
// that gives no reason may be one that does not speak 5.0.
func TestCloseFrameBeforeConnackIsTheReason(t *testing.T) {
	for _, tt := range closeFrames {
		for _, atOnce := range []bool{false, true} { // without having read the CONNECT
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				serveWeb(t, &network, func(_ int, p *webPeer) {
					if !atOnce {
						p.frame()
					}
					p.close(tt.payload)
				})
				_, err := mqtt.Connect(t.Context(), "ws://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V5))
				end, ok := errors.AsType[*transport.CloseError](err)
				if !ok || end.Code != tt.code || end.Text != tt.text {
					t.Fatalf("close frame %q: got %v, want a CloseError with %d %q", tt.payload, err, tt.code, tt.text)
				}
				if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "CONNACK" {
					t.Errorf("close frame %q: got %#v, want a ConnectError at CONNACK", tt.payload, err)
				}
				mute := tt.text == "" && tt.code != 1001
				if hint := containsText(err, "WithDowngradeOnClose"); hint != mute {
					t.Errorf("close frame %q: %v: hint to downgrade: %t, want %t", tt.payload, err, hint, mute)
				}
				if !strings.Contains(err.Error(), tt.text) {
					t.Errorf("%q does not say %q", err, tt.text)
				}
			})
		}
	}
}

// A close frame instead of an answer is a close instead of an answer.
func TestCloseFrameBeforeConnackLetsDowngrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		serveWeb(t, &network, func(n int, p *webPeer) {
			p.frame()
			if n == 1 {
				p.close("\x03\xea") // 1002: protocol error
				return
			}
			p.send(server.Connack3)
			io.Copy(io.Discard, p.in)
		})
		conn, err := mqtt.Connect(t.Context(), "ws://server", mqtt.WithDialer(network.Dial), mqtt.WithDowngradeOnClose())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		if v := conn.Version(); v != mqtt.V311 {
			t.Errorf("connected by %v, want 3.1.1", v)
		}
	})
}

// Code and text of the close frame that ends a link are in Disconnected, also when this side is
// writing as fast as it can.
func TestCloseFrameOnALiveLinkIsTheReason(t *testing.T) {
	for _, tt := range closeFrames {
		for _, busy := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				serveWeb(t, &network, func(_ int, p *webPeer) {
					p.frame()
					p.send(server.Connack)
					if busy {
						p.frame()
					}
					p.close(tt.payload)
					io.Copy(io.Discard, p.in)
				})
				conn, err := mqtt.Connect(t.Context(), "ws://server", mqtt.WithDialer(network.Dial), mqtt.WithBackoff(steady(time.Hour)))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Abort()
				for range 100 {
					if busy {
						conn.Publish(t.Context(), mqtt.Message{Topic: "t"})
					}
				}
				ev := await[mqtt.Disconnected](t, conn.Events())
				if end, ok := errors.AsType[*transport.CloseError](ev.Err); !ok || end.Code != tt.code || end.Text != tt.text {
					t.Errorf("close frame %q, busy %t: got %v, want a CloseError with %d %q", tt.payload, busy, ev.Err, tt.code, tt.text)
				}
			})
		}
	}
}
