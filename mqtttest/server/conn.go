package server

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Conn is one end of a buffered in-memory connection. It behaves as a TCP connection does:
// a Write returns when its bytes are in the buffer, bytes written before a Close can be read
// after it, and a Write to a closed peer fails with an error that is syscall.ECONNRESET.
// All methods may be called from several goroutines.
type Conn struct {
	link          *Link // immutable, as are the next four
	in, out       *flow // guarded by link.mu
	local, remote Addr

	closed   bool // guarded by link.mu
	readEnd  deadline
	writeEnd deadline
}

var _ net.Conn = (*Conn)(nil)

// Pipe returns the two ends of a new connection that no [Network] knows. bufferSize is what each
// direction holds before a Write waits, in bytes; zero or less means [DefaultBufferSize].
func Pipe(bufferSize int) (client, server *Conn) {
	l := newLink(0, positiveOr(bufferSize, DefaultBufferSize), "client", "server")
	return l.client, l.server
}

// Link returns the connection whose end c is.
func (c *Conn) Link() *Link { return c.link }

// Read reads what has arrived, waiting for at least one byte. It returns io.EOF after the last
// byte of a peer that closed.
func (c *Conn) Read(p []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := c.localError(&c.readEnd); err != nil {
			return 0, c.opError("read", err)
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, wait := c.in.take(p)
		if n > 0 {
			l.cond.Broadcast() // room for the writer
			return n, nil
		}
		if len(c.in.chunks) == 0 {
			if c.in.broken {
				return 0, c.opError("read", os.NewSyscallError("read", syscall.ECONNRESET))
			}
			if c.in.ended && !c.in.stalled {
				return 0, io.EOF
			}
		}
		l.waitAtMost(wait)
	}
}

// Write places p in the buffer, waiting while that is full.
func (c *Conn) Write(p []byte) (written int, err error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := c.localError(&c.writeEnd); err != nil {
			return written, c.opError("write", err)
		}
		if c.out.ended {
			return written, c.opError("write", os.NewSyscallError("write", syscall.EPIPE))
		}
		// A stalled direction carries no reset back: a closed peer is not noticed.
		if c.out.broken || (c.out.gone && !c.out.stalled) {
			return written, c.opError("write", os.NewSyscallError("write", syscall.ECONNRESET))
		}
		if len(p) == 0 {
			return written, nil
		}
		if n := c.out.room(len(p)); n > 0 || c.out.cutAfter == 0 {
			cut := c.out.put(p[:n])
			written += n
			p = p[n:]
			if cut {
				l.breakAfter(c.out)
			}
			l.cond.Broadcast()
			if len(p) == 0 {
				return written, nil
			}
			continue
		}
		l.cond.Wait()
	}
}

// Close ends this end. Calls blocked in it return net.ErrClosed; the peer reads what was written
// before and then io.EOF. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.out.ended, c.in.gone = true, true
	c.in.clear()
	c.readEnd.stop()
	c.writeEnd.stop()
	l.cond.Broadcast()
	return nil
}

// CloseWrite ends the sending direction, as a FIN does: the peer reads what was written before
// and then io.EOF. Reads go on; a Write fails with an error that is syscall.EPIPE.
func (c *Conn) CloseWrite() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.out.ended = true
	l.cond.Broadcast()
	return nil
}

// LocalAddr returns the address of this end, an [Addr].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end, an [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, &c.readEnd, &c.writeEnd) }

// SetReadDeadline ends current and future Reads at t with os.ErrDeadlineExceeded; the zero time
// means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, &c.readEnd) }

// SetWriteDeadline ends current and future Writes at t with os.ErrDeadlineExceeded; the zero time
// means never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeEnd) }

func (c *Conn) setDeadlines(t time.Time, ds ...*deadline) error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	for _, d := range ds {
		d.set(t, c.link.wake)
	}
	c.link.cond.Broadcast()
	return nil
}

func (c *Conn) localError(d *deadline) error {
	switch {
	case c.closed:
		return net.ErrClosed
	case d.passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}
