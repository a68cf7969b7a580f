//go:build unix

package integration

import (
	"context"
	"io"
	"net"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// slowRelay is a TCP proxy that takes so many bytes a second from the client, with
// little room in the kernel: what is on its way stands on the client's side.
type slowRelay struct {
	ln     net.Listener
	target string
	rate   int
	work   sync.WaitGroup // accept, and two copies for each connection

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

// startSlowRelay listens in front of the address of rawURL until the test ends.
func startSlowRelay(t *testing.T, rawURL string, rate int) *slowRelay {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
		})
	}}
	ln, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &slowRelay{ln: ln, target: u.Host, rate: rate}
	r.work.Go(r.accept)
	t.Cleanup(func() {
		ln.Close()
		r.mu.Lock()
		for _, conn := range r.conns {
			conn.Close()
		}
		r.mu.Unlock()
		r.work.Wait()
	})
	return r
}

// dial is for WithDialer: the names of URL and certificate stay the broker's.
func (r *slowRelay) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", r.ln.Addr().String())
}

func (r *slowRelay) accept() {
	for {
		client, err := r.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			client.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, client, server)
		r.mu.Unlock()
		both := func(to io.Writer, from io.Reader) {
			_, _ = io.Copy(to, from)
			client.Close()
			server.Close()
		}
		r.work.Go(func() { both(server, paced{client, r.rate}) })
		r.work.Go(func() { both(client, server) })
	}
}

// paced reads so many bytes a second.
type paced struct {
	from io.Reader
	rate int
}

func (p paced) Read(b []byte) (int, error) {
	n, err := p.from.Read(b[:min(len(b), 4<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(p.rate))
	return n, err
}

// A message of 2 MiB over 300 KiB a second takes several times the ping timeout. It
// gets through on one link, and the broker has it once, at its first try.
func TestLargeMessageOnASlowLine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system does not say what the peer's TCP has taken")
	}
	b := broker.StartMosquitto(t, broker.MosquittoOptions{})
	for _, over := range []broker.Transport{broker.TCP, broker.TLS} {
		t.Run(string(over), func(t *testing.T) {
			t.Parallel()
			messages := subscribe(t, connect(t, b, broker.V311, over), "slow/"+string(over), mqtt.QoS(1))
			relay := startSlowRelay(t, b.URL(over), 300<<10)
			conn := connect(t, b, broker.V311, over, mqtt.WithDialer(relay.dial), mqtt.WithSession(time.Hour),
				mqtt.WithClientID("slow-"+string(over)), mqtt.WithKeepAlive(2*time.Second), mqtt.WithPingTimeout(2*time.Second))
			publish(t, conn, mqtt.Message{Topic: "slow/" + string(over), Payload: make([]byte, 2<<20), QoS: 1})
			if s := conn.Stats(); s.Links != 1 || s.Resent != 0 {
				t.Errorf("%d links, %d packets sent again", s.Links, s.Resent)
			}
			if m := receive(t, messages); len(m.Payload) != 2<<20 {
				t.Errorf("%d bytes came", len(m.Payload))
			}
			if len(messages) > 0 {
				t.Error("the message came twice")
			}
		})
	}
}

// Over WebSocket Mosquitto does not see a packet before its end, so that it cuts one
// that takes longer than one and a half keep alives. The error says what helps.
func TestSlowPacketThatMosquittoCuts(t *testing.T) {
	b := broker.StartMosquitto(t, broker.MosquittoOptions{})
	relay := startSlowRelay(t, b.URL(broker.WS), 200<<10)
	conn := connect(t, b, broker.V311, broker.WS, mqtt.WithDialer(relay.dial),
		mqtt.WithKeepAlive(time.Second), mqtt.WithPingTimeout(patience))
	conn.Publish(t.Context(), mqtt.Message{Topic: "slow", Payload: make([]byte, 4<<20), QoS: 1})
	for {
		ev, _ := within(t, "the end of the link", conn.Events())
		if down, ok := ev.(mqtt.Disconnected); ok {
			if !strings.Contains(down.Err.Error(), "WithKeepAlive") {
				t.Errorf("%v does not say what helps", down.Err)
			}
			return
		}
	}
}
