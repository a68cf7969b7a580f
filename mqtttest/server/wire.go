package server

import (
	"errors"
	"io"
	"os"
	"time"
)

// Wire is one connection of a client to a [Peer]. Its steps read and write raw bytes; the faults
// of the embedded [Link] work on it too (ToServer is what the client sends). The steps are for
// one goroutine at a time, normally the test's own.
type Wire struct {
	*Link

	t       TB
	conn    *Conn
	timeout time.Duration
	unread  []byte // read from conn, not yet expected
}

// Expect reads as many bytes as the pattern has and fails unless they fit. The pattern is hex with
// free white space; "??" stands for any byte. It returns the bytes.
func (w *Wire) Expect(pattern string) []byte {
	w.t.Helper()
	want, err := parsePattern(pattern)
	if err != nil {
		w.t.Fatalf("script: pattern %q: %v", pattern, err)
	}
	return w.expect(want)
}

// ExpectBytes is [Wire.Expect] for bytes made by the test.
func (w *Wire) ExpectBytes(want []byte) { w.t.Helper(); w.expect(pattern{bytes: want}) }

func (w *Wire) expect(want pattern) []byte {
	w.t.Helper()
	end := time.Now().Add(w.timeout)
	for len(w.unread) < len(want.bytes) && want.differs(w.unread) < 0 {
		if err := w.fill(end); err != nil {
			w.t.Fatalf("script: %v\nwant %v\n     (%s)\ngot  %s\n     (%s)", readable(err, w.timeout),
				want, describe(want.bytes), spaced(w.unread), describe(w.unread))
		}
	}
	n := min(len(want.bytes), len(w.unread))
	if at := want.differs(w.unread[:n]); at >= 0 {
		w.t.Fatalf("script: byte %d differs\nwant %v\n     (%s)\ngot  %s\n     (%s)", at,
			want, describe(want.bytes), spaced(w.unread), describe(w.unread))
	}
	return w.next(n)
}

// ExpectPacket reads the next whole packet and returns its bytes.
func (w *Wire) ExpectPacket() []byte {
	w.t.Helper()
	end := time.Now().Add(w.timeout)
	for {
		n := wholePacket(w.unread)
		if n > 0 {
			return w.next(n)
		}
		if n < 0 {
			w.t.Fatalf("script: remaining length of more than four bytes\ngot  %s", spaced(w.unread))
		}
		if err := w.fill(end); err != nil {
			w.t.Fatalf("script: want a packet: %v\ngot  %s\n     (%s)", readable(err, w.timeout),
				spaced(w.unread), describe(w.unread))
		}
	}
}

// ExpectNothing fails if the client sends a byte or ends the connection within d.
func (w *Wire) ExpectNothing(d time.Duration) {
	w.t.Helper()
	var err error
	if len(w.unread) == 0 {
		err = w.fill(time.Now().Add(d))
	}
	if len(w.unread) > 0 {
		w.t.Fatalf("script: want nothing for %v\ngot  %s\n     (%s)", d, spaced(w.unread), describe(w.unread))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("script: want nothing for %v, but %v", d, readable(err, d))
	}
}

// ExpectEOF fails unless the next thing the client does, within the timeout, is to close.
func (w *Wire) ExpectEOF() {
	w.t.Helper()
	var err error
	if len(w.unread) == 0 {
		err = w.fill(time.Now().Add(w.timeout))
	}
	if len(w.unread) > 0 {
		w.t.Fatalf("script: want the end\ngot  %s\n     (%s)", spaced(w.unread), describe(w.unread))
	}
	if !errors.Is(err, io.EOF) {
		w.t.Fatalf("script: want the end, but %v", readable(err, w.timeout))
	}
}

// Rest reads until the client closes and returns what it sent.
func (w *Wire) Rest() []byte {
	w.t.Helper()
	end := time.Now().Add(w.timeout)
	for {
		switch err := w.fill(end); {
		case errors.Is(err, io.EOF):
			return w.next(len(w.unread))
		case err != nil:
			w.t.Fatalf("script: want the end: %v\ngot  %s\n     (%s)", readable(err, w.timeout),
				spaced(w.unread), describe(w.unread))
		}
	}
}

// Handshake reads the client's CONNECT, sends the packets given in hex, and returns the CONNECT.
func (w *Wire) Handshake(connack string) []byte {
	w.t.Helper()
	connect := w.ExpectPacket()
	if connect[0] != 0x10 {
		w.t.Fatalf("script: want CONNECT\ngot  %s\n     (%s)", spaced(connect), describe(connect))
	}
	w.Send(connack)
	return connect
}

// Send writes bytes given in hex, with free white space. It fails if the client does not take them
// within the timeout.
func (w *Wire) Send(hexBytes string) { w.t.Helper(); w.SendBytes(Hex(hexBytes)) }

// SendBytes is [Wire.Send] for bytes made by the test.
func (w *Wire) SendBytes(b []byte) {
	w.t.Helper()
	_ = w.conn.SetWriteDeadline(time.Now().Add(w.timeout)) // a closed conn tells at the Write
	if n, err := w.conn.Write(b); err != nil {
		w.t.Fatalf("script: sent %d of %d bytes of %s: %v", n, len(b), describe(b), readable(err, w.timeout))
	}
}

// Close closes the server's end: the client reads what was sent, then the end.
func (w *Wire) Close() { _ = w.conn.Close() }

// Conn returns the server's end, for what the steps cannot say.
func (w *Wire) Conn() *Conn { return w.conn }

// fill reads once, until end at the latest.
func (w *Wire) fill(end time.Time) error {
	if err := w.conn.SetReadDeadline(end); err != nil {
		return err
	}
	var buf [4096]byte
	n, err := w.conn.Read(buf[:])
	w.unread = append(w.unread, buf[:n]...)
	return err
}

func (w *Wire) next(n int) []byte {
	b := w.unread[:n:n]
	w.unread = w.unread[n:]
	return b
}
