// gate: what gorilla/websocket gets instead of the connection.

package transport

import (
	"errors"
	"math"
	"net"
	"sync/atomic"
	"time"
)

// errNotWriter fails the close frame that gorilla tries to write from within a
// read when the peer breaks the protocol.
var errNotWriter = errors.New("transport: websocket: the peer broke the protocol")

// errLongAnswer fails a handshake whose answer has no end.
var errLongAnswer = errors.New("the server's answer to the upgrade is too long")

// smallPiece is the most that a socket is given at once when the system does not
// say what the peer has taken of it: then only a write that returns shows that it does.
const smallPiece = 32 << 10

// gate keeps gorilla to our rules. Writes pass only while the writer or Close
// has opened it, so the reader cannot block on a peer that does not read.
// Deadlines are ours alone: gorilla would clear, with each frame, the one that
// is to kill the link. The errors of the socket are kept, because gorilla
// replaces them by their text.
type gate struct {
	net.Conn
	open     atomic.Bool
	writeErr atomic.Pointer[error]

	// Owned by the writer.
	piece    int    // the most that the socket is given at once
	writes   int    // how often gorilla wrote
	isData   bool   // what it writes belongs to a message
	progress func() // called when a part of a message was written, if not nil

	// Owned by the reader; by the handshake before that.
	budget  int // bytes the handshake may still read; negative after it
	readErr error
}

func newGate(below net.Conn) *gate {
	g := &gate{Conn: below, budget: maxAnswer, piece: math.MaxInt}
	g.open.Store(true)
	return g
}

func (g *gate) endHandshake() {
	g.open.Store(false)
	g.budget = -1
}

func (g *gate) Read(p []byte) (int, error) {
	if g.budget == 0 {
		return 0, errLongAnswer
	}
	if g.budget > 0 {
		p = p[:min(len(p), g.budget)]
	}
	n, err := g.Conn.Read(p)
	if g.budget > 0 {
		g.budget -= n
	}
	if err != nil {
		g.readErr = err
	}
	return n, err
}

func (g *gate) Write(p []byte) (n int, err error) {
	if !g.open.Load() {
		return 0, errNotWriter
	}
	g.writes++
	for n < len(p) {
		k, err := g.Conn.Write(p[n:min(len(p), n+min(g.piece, len(p)))])
		n += k
		if err != nil {
			g.writeErr.CompareAndSwap(nil, &err)
			return n, err
		}
		if g.isData && g.progress != nil {
			g.progress()
		}
	}
	return n, nil
}

// data runs write, which adds to a message.
func (g *gate) data(write func() error) error {
	g.isData = true
	err := write()
	g.isData = false
	return err
}

// writeProblem prefers the socket's own error to gorilla's copy of its text.
func (g *gate) writeProblem(err error) error {
	if own := g.writeErr.Load(); own != nil {
		return *own
	}
	return err
}

func (g *gate) SetDeadline(time.Time) error      { return nil }
func (g *gate) SetWriteDeadline(time.Time) error { return nil }
