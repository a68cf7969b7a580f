package server

import (
	"fmt"
	"sync"
	"time"
)

// Direction names one or both directions of a [Link].
type Direction uint8

// The directions of a Link.
const (
	ToServer Direction = 1 << iota // from the dialing end to the accepting one
	ToClient                       // from the accepting end to the dialing one
	Both     = ToServer | ToClient
)

// String names the direction.
func (d Direction) String() string {
	switch d {
	case ToServer:
		return "to server"
	case ToClient:
		return "to client"
	case Both:
		return "both"
	}
	return fmt.Sprintf("direction %d", uint8(d))
}

// Link is one in-memory connection seen from outside: it holds both directions and the faults
// that a test can put on them. Both ends return it from [Conn.Link]; its methods may be called
// from any goroutine at any time.
type Link struct {
	number int // immutable

	// mu is only held for short steps; a goroutine that has to wait does so in cond.Wait, which a synctest
	// bubble knows as durably blocked.
	mu     sync.Mutex
	cond   sync.Cond
	flows  [2]flow // guarded by mu; 0 to the server, 1 to the client
	client *Conn
	server *Conn
}

func newLink(number, bufferSize int, clientAddr, serverAddr Addr) *Link {
	l := &Link{number: number}
	l.cond.L = &l.mu
	l.flows[0], l.flows[1] = newFlow(bufferSize), newFlow(bufferSize)
	l.client = &Conn{link: l, in: &l.flows[1], out: &l.flows[0], local: clientAddr, remote: serverAddr}
	l.server = &Conn{link: l, in: &l.flows[0], out: &l.flows[1], local: serverAddr, remote: clientAddr}
	return l
}

// Number returns the Link's place among the dials of its [Network], beginning with 1; 0 for a
// Link made by [Pipe].
func (l *Link) Number() int { return l.number }

// Cut breaks the connection now: bytes on their way are lost, and every call at both ends fails
// with an error that is syscall.ECONNRESET.
func (l *Link) Cut() {
	l.change(Both, func(f *flow) { f.broken = true; f.clear() })
}

// CutAfter breaks the connection when n more bytes have been written in one of the directions d;
// those n bytes can still be read, nothing behind them. With n = 0 it breaks before the next
// byte. A Write that goes past the limit returns what it wrote and the error. A negative n takes
// back an earlier CutAfter.
func (l *Link) CutAfter(d Direction, n int64) {
	l.change(d, func(f *flow) {
		if f.cutAfter = n; n < 0 {
			f.cutAfter = neverCut
		}
	})
}

// Stall makes the direction d half-open: writes succeed until the buffer is full and then block,
// nothing arrives, and a Close of the writing end is not seen either, until [Link.Resume].
func (l *Link) Stall(d Direction) { l.change(d, func(f *flow) { f.stalled = true }) }

// Resume ends [Link.Stall] and [Link.Drop]; what was held back arrives, what was dropped does not.
func (l *Link) Resume(d Direction) {
	l.change(d, func(f *flow) { f.stalled, f.dropping = false, false })
}

// Drop swallows what is written in direction d from now on, until [Link.Resume]: writes succeed.
// What is already on its way arrives.
func (l *Link) Drop(d Direction) { l.change(d, func(f *flow) { f.dropping = true }) }

// Delay makes what is written in direction d from now on readable only after the given time.
// Order is kept; zero ends it.
func (l *Link) Delay(d Direction, by time.Duration) {
	l.change(d, func(f *flow) { f.delay = by })
}

// Chunk makes a Read in direction d return at most n bytes; with 1 the bytes arrive one by one.
// Zero ends it.
func (l *Link) Chunk(d Direction, n int) { l.change(d, func(f *flow) { f.maxRead = n }) }

// Written returns how many bytes were accepted from the writers of the directions d, dropped ones
// included.
func (l *Link) Written(d Direction) int64 {
	var n int64
	l.change(d, func(f *flow) { n += f.passed })
	return n
}

// Pending returns how many bytes are on their way in the directions d.
func (l *Link) Pending(d Direction) int {
	n := 0
	l.change(d, func(f *flow) { n += f.size })
	return n
}

func (l *Link) change(d Direction, do func(*flow)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.flows {
		if d&(1<<i) != 0 {
			do(&l.flows[i])
		}
	}
	l.cond.Broadcast()
}

// breakAfter ends both directions because a CutAfter was reached: the flow that reached it keeps
// its bytes for the reader, the other one loses what is on its way. The caller holds mu.
func (l *Link) breakAfter(reached *flow) {
	for i := range l.flows {
		f := &l.flows[i]
		if f.broken = true; f != reached {
			f.clear()
		}
	}
}
