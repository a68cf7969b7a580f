package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// memNet is a network in memory: DialFunc hands the other end of each
// connection to the handler of the address. It works in a synctest bubble.
type memNet struct {
	t        *testing.T
	handlers map[string]func(net.Conn)
	wg       sync.WaitGroup
	over     chan struct{} // closed when the test ends

	mu      sync.Mutex
	dialled []string
	clients []*memConn
}

func newMemNet(t *testing.T) *memNet {
	n := &memNet{t: t, handlers: map[string]func(net.Conn){}, over: make(chan struct{})}
	t.Cleanup(n.wait)
	return n
}

// wait ends the handlers by closing what the test left open.
func (n *memNet) wait() {
	n.mu.Lock()
	for _, c := range n.clients {
		_ = c.Close()
	}
	n.mu.Unlock()
	close(n.over)
	n.wg.Wait()
}

func (n *memNet) dial(_ context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled = append(n.dialled, network+" "+address)
	handler := n.handlers[address]
	if handler == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no such host in memory: " + address)}
	}
	client, server := memPair()
	n.clients = append(n.clients, client)
	n.wg.Go(func() {
		defer server.Close()
		handler(server)
	})
	return client, nil
}

// addresses returns what was dialled so far.
func (n *memNet) addresses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.dialled...)
}

// mustAllBeClosed checks that the dialer closed its ends.
func (n *memNet) mustAllBeClosed() {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, c := range n.clients {
		if !c.isClosed() {
			n.t.Errorf("connection %d of %v was left open", i, n.dialled)
		}
	}
}

// memConn is one end of a buffered connection; net.Pipe, which has no buffer,
// deadlocks two writers.
type memConn struct{ in, out *memStream }

func memPair() (*memConn, *memConn) {
	a, b := newMemStream(), newMemStream()
	return &memConn{a, b}, &memConn{b, a}
}

func (c *memConn) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error) { return c.out.write(p) }

func (c *memConn) Close() error {
	c.in.update(func(s *memStream) { s.readerGone = true })
	c.out.update(func(s *memStream) { s.writerGone = true })
	return nil
}

func (c *memConn) isClosed() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readerGone
}

func (c *memConn) LocalAddr() net.Addr  { return memAddr{} }
func (c *memConn) RemoteAddr() net.Addr { return memAddr{} }
func (c *memConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *memConn) SetReadDeadline(t time.Time) error  { c.in.readUntil.set(c.in, t); return nil }
func (c *memConn) SetWriteDeadline(t time.Time) error { c.out.writeUntil.set(c.out, t); return nil }

type memAddr struct{}

func (memAddr) Network() string { return "memory" }
func (memAddr) String() string  { return "memory" }

// waitForPeer returns when the other end is closed, and reads nothing.
func (c *memConn) waitForPeer() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	for !c.out.readerGone {
		c.out.changed.Wait()
	}
}

// memStream is one direction.
type memStream struct {
	mu                     sync.Mutex
	changed                *sync.Cond
	data                   []byte
	room                   int
	readerGone, writerGone bool
	readUntil, writeUntil  memDeadline
}

func newMemStream() *memStream {
	s := &memStream{room: 64 << 10}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *memStream) update(f func(*memStream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.changed.Broadcast()
}

func (s *memStream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerGone:
			return 0, net.ErrClosed
		case s.readUntil.passed():
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			s.data = s.data[n:]
			s.changed.Broadcast()
			return n, nil
		case s.writerGone:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *memStream) write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writerGone:
			return n, net.ErrClosed
		case s.readerGone:
			return n, io.ErrClosedPipe
		case s.writeUntil.passed():
			return n, os.ErrDeadlineExceeded
		case len(p) == 0:
			return n, nil
		}
		if k := min(len(p), s.room-len(s.data)); k > 0 {
			s.data = append(s.data, p[:k]...)
			p, n = p[k:], n+k
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

type memDeadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *memDeadline) set(s *memStream, t time.Time) {
	s.update(func(*memStream) {
		if d.timer != nil {
			d.timer.Stop()
		}
		if d.at = t; !t.IsZero() {
			d.timer = time.AfterFunc(time.Until(t), func() { s.update(func(*memStream) {}) })
		}
	})
}

func (d *memDeadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }
