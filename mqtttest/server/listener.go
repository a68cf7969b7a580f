package server

import (
	"context"
	"net"
	"sync"
)

// Listener takes the connections dialed to one address of a [Network].
type Listener struct {
	network *Network // immutable
	addr    Addr

	mu      sync.Mutex // guards what follows
	cond    sync.Cond
	waiting []*Conn
	closed  bool
}

var _ net.Listener = (*Listener)(nil)

// Accept waits for the next connection. After Close it returns net.ErrClosed.
func (ln *Listener) Accept() (net.Conn, error) {
	c, err := ln.AcceptConn(context.Background())
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptConn is Accept bounded by ctx, and returns the concrete type.
func (ln *Listener) AcceptConn(ctx context.Context) (*Conn, error) {
	stop := context.AfterFunc(ctx, ln.wake)
	defer stop()
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for {
		switch {
		case ln.closed:
			return nil, ln.opError(net.ErrClosed)
		case len(ln.waiting) > 0:
			c := ln.waiting[0]
			ln.waiting = ln.waiting[1:]
			return c, nil
		case ctx.Err() != nil:
			return nil, ln.opError(context.Cause(ctx))
		}
		ln.cond.Wait()
	}
}

// Close refuses dials from now on and cuts the connections that were not accepted. Accepted ones live on.
func (ln *Listener) Close() error {
	n := ln.network
	n.mu.Lock()
	if n.listeners[string(ln.addr)] == ln {
		delete(n.listeners, string(ln.addr))
	}
	n.mu.Unlock()

	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return ln.opError(net.ErrClosed)
	}
	ln.closed = true
	for _, c := range ln.waiting {
		c.link.Cut()
	}
	ln.waiting = nil
	ln.cond.Broadcast()
	return nil
}

// Addr returns the address given to Listen, an [Addr].
func (ln *Listener) Addr() net.Addr { return ln.addr }

func (ln *Listener) offer(c *Conn) bool {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed || len(ln.waiting) >= backlog {
		return false
	}
	ln.waiting = append(ln.waiting, c)
	ln.cond.Broadcast()
	return true
}

func (ln *Listener) wake() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.cond.Broadcast()
}

func (ln *Listener) opError(err error) error {
	return &net.OpError{Op: "accept", Net: "mem", Addr: ln.addr, Err: err}
}
