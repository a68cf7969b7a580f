package mqtt_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// slowPeer is a server at the end of a slow line, over sockets of the system: it
// reads so many bytes a second, with little room in the kernel, so that what is on
// its way stands on the client's side.
type slowPeer struct {
	listener net.Listener
	over     chan struct{} // closed at the end of the test

	rate      int                             // bytes a second, 0 for as fast as it can
	mute      func(p *slowPeer, in io.Reader) // what it does behind CONNACK instead of answering
	pingFirst bool                            // CONNACK waits for the answer to a WebSocket ping

	wg sync.WaitGroup

	links, publishes atomic.Int32
}

// newSlowPeer starts a peer for the scheme, which set may change before the first
// connection, and returns its URL.
func newSlowPeer(t *testing.T, scheme string, set func(*slowPeer)) (*slowPeer, string) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return smallBuffer(c) }}
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPeer{listener: l, over: make(chan struct{})}
	set(p)
	var mu sync.Mutex
	var open []net.Conn
	track := func(conn net.Conn) net.Conn {
		p.links.Add(1)
		mu.Lock()
		open = append(open, conn)
		mu.Unlock()
		if p.rate > 0 {
			conn = &slowReader{conn, p.rate}
		}
		if scheme == "mqtts" || scheme == "wss" {
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
		}
		return conn
	}
	p.wg.Go(func() { p.accept(scheme, track) })
	t.Cleanup(func() {
		close(p.over)
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		p.wg.Wait()
	})
	return p, scheme + "://" + l.Addr().String()
}

func (p *slowPeer) accept(scheme string, track func(net.Conn) net.Conn) {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		conn = track(conn)
		p.wg.Go(func() {
			defer conn.Close()
			if scheme != "ws" && scheme != "wss" {
				p.serve(conn, conn)
				return
			}
			if ws := upgrade(conn); ws != nil {
				stream := &wsStream{ws: ws}
				p.serve(stream, stream)
			}
		})
	}
}

// slowReader reads at a rate.
type slowReader struct {
	net.Conn
	rate int
}

func (r *slowReader) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b[:min(len(b), 4<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(r.rate))
	return n, err
}

// upgrade makes the server's side of a WebSocket of conn.
func upgrade(conn net.Conn) *websocket.Conn {
	request, err := http.ReadRequest(bufio.NewReaderSize(conn, 16))
	if err != nil {
		return nil
	}
	u := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	ws, err := u.Upgrade(&hijacked{conn: conn, header: http.Header{}}, request, nil)
	if err != nil {
		return nil
	}
	return ws
}

// hijacked is the part of an HTTP server that an upgrade needs.
type hijacked struct {
	conn   net.Conn
	header http.Header
}

func (h *hijacked) Header() http.Header         { return h.header }
func (h *hijacked) Write(b []byte) (int, error) { return h.conn.Write(b) }
func (h *hijacked) WriteHeader(int)             {}
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// wsStream is a WebSocket as a stream of bytes.
type wsStream struct {
	ws   *websocket.Conn
	part io.Reader
}

func (s *wsStream) Read(b []byte) (int, error) {
	for {
		if s.part == nil {
			_, part, err := s.ws.NextReader()
			if err != nil {
				return 0, err
			}
			s.part = part
		}
		n, err := s.part.Read(b)
		if err == io.EOF {
			s.part, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *wsStream) Write(b []byte) (int, error) {
	return len(b), s.ws.WriteMessage(websocket.BinaryMessage, b)
}

// pingThen sends a ping, and b when it is answered.
func (s *wsStream) pingThen(b []byte) {
	s.ws.SetPongHandler(func(string) error {
		_, err := s.Write(b)
		return err
	})
	_ = s.ws.WriteControl(websocket.PingMessage, []byte("x"), time.Time{})
}

// serve answers MQTT 3.1.1 packets as soon as they are there.
func (p *slowPeer) serve(in io.Reader, out io.Writer) {
	r := bufio.NewReader(in)
	for {
		head, err := r.ReadByte()
		if err != nil {
			return
		}
		size, err := binary.ReadUvarint(r) // the same form as a Remaining Length
		if err != nil {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		var answer []byte
		switch head >> 4 {
		case 1: // CONNECT
			answer = []byte{0x20, 2, 0, 0}
			if p.pingFirst {
				out.(*wsStream).pingThen(answer)
				continue
			}
		case 3: // PUBLISH of topic "t"
			if p.publishes.Add(1); head&6 == 2 {
				answer = []byte{0x40, 2, body[3], body[4]}
			}
		case 12: // PINGREQ
			answer = []byte{0xD0, 0}
		}
		if _, err := out.Write(answer); answer != nil && err != nil {
			return
		}
		if p.mute != nil {
			p.mute(p, r)
			return
		}
	}
}
