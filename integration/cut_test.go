package integration

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// cutter is a TCP proxy in front of a broker that notes what passes and cuts all
// connections through it at once, with whatever is in flight in either direction.
type cutter struct {
	url    string // for the client
	target string
	ln     net.Listener
	wire   *wire          // the proxies of a cluster share one
	work   sync.WaitGroup // accept, and two copies for each connection

	mu    sync.Mutex
	conns map[net.Conn]struct{} // guarded by mu; both ends of each connection
}

// startCutter listens in front of the broker at brokerURL until the test ends.
func startCutter(t *testing.T, brokerURL string) *cutter {
	t.Helper()
	return startCutterOn(t, brokerURL, &wire{})
}

// startCutterOn is startCutter with what passes noted in w.
func startCutterOn(t *testing.T, brokerURL string, w *wire) *cutter {
	t.Helper()
	u, err := url.Parse(brokerURL)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{url: "mqtt://" + ln.Addr().String(), target: u.Host, ln: ln, wire: w, conns: map[net.Conn]struct{}{}}
	c.work.Go(c.accept)
	t.Cleanup(func() {
		ln.Close()
		c.cut()
		c.work.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		client, err := c.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			client.Close()
			continue
		}
		c.mu.Lock()
		c.conns[client], c.conns[server] = struct{}{}, struct{}{}
		c.mu.Unlock()
		link := c.wire.begin()
		c.work.Go(func() { c.copy(client, server, link.tap(server, true)) })
		c.work.Go(func() { c.copy(server, client, link.tap(client, false)) })
	}
}

// copy copies one direction, what tap reads; its end ends the connection.
func (c *cutter) copy(to, from net.Conn, tap io.Reader) {
	_, _ = io.Copy(to, tap)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range []net.Conn{to, from} {
		conn.Close()
		delete(c.conns, conn)
	}
}

// cut resets every connection.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.(*net.TCPConn).SetLinger(0) // drop what is in flight
		conn.Close()
	}
}
