package mqtt

import (
	"net"
	"sync/atomic"
	"time"
)

// socketCalls is whether one of a link's goroutines is in a call of the socket. A
// call that never returns, as of a net.Conn that has no deadlines and whose Close
// wakes nothing, must not hold up the end of the link: it is left behind, and its
// goroutine touches nothing of the link any more when it returns. So that it reads
// nothing that is used again, only a copy is written to a socket that is not the
// system's.
type socketCalls struct{ state atomic.Int32 }

const (
	callNone  int32 = iota // the goroutine is not in a call
	callIn                 // it is
	callEnded              // the link has ended without it
)

// enter begins a call, unless the link has ended without this goroutine.
func (s *socketCalls) enter() bool { return s.state.CompareAndSwap(callNone, callIn) }

// leave ends a call, and reports whether the goroutine may go on.
func (s *socketCalls) leave() bool { return s.state.CompareAndSwap(callIn, callNone) }

// in reports whether a call that was entered still counts.
func (s *socketCalls) in() bool { return s.state.Load() == callIn }

// abandon forbids further calls, and reports whether one was left behind.
func (s *socketCalls) abandon() bool { return s.state.Swap(callEnded) == callIn }

// guard runs f, a call of the writer, and closes the socket if f has not returned
// by the time by.
func (l *link) guard(by time.Time, f func()) {
	if !l.writes.enter() {
		return
	}
	t := time.AfterFunc(time.Until(by), l.closeSocket)
	f()
	t.Stop()
	l.writes.leave()
}

// closeSocket begins to close the socket, once. Close may block, so it has a
// goroutine of its own, which run waits for.
func (l *link) closeSocket() {
	l.shut.Do(func() {
		close(l.shutting)
		go func() {
			defer close(l.shutDone)
			if under, below := bottom(l.nc); below {
				// TLS writes a last record, for which it takes up to 5 s.
				defer time.AfterFunc(killTime, func() { under.Close() }).Stop()
			}
			l.nc.Close()
		}()
	})
}

// bottom returns the socket below TLS and WebSocket, and whether there is one
// below nc.
func bottom(nc net.Conn) (under net.Conn, below bool) {
	const layers = 8 // more than there are; one that is its own bottom ends here
	for range layers {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under := over.NetConn()
		if under == nil {
			break
		}
		nc, below = under, true
	}
	return nc, below
}

// socket returns the socket at the bottom of the link.
func (l *link) socket() net.Conn {
	nc, _ := bottom(l.nc)
	return nc
}

// ofSystem reports whether the socket at the bottom of nc is one of the operating
// system, whose calls all end when it is closed.
func ofSystem(nc net.Conn) bool {
	nc, _ = bottom(nc)
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// awaitGoroutines waits until the link's goroutines have ended, which ended tells,
// and its socket is closed. Of a foreign socket, what does not return killTime
// after the socket was to be closed is left behind.
func (l *link) awaitGoroutines(ended <-chan struct{}) {
	<-l.shutting
	if !l.foreign {
		<-ended
		<-l.shutDone
		return
	}
	by := time.Now().Add(killTime)
	if waitUntil(by, l.shutDone) && waitUntil(by, ended) {
		return
	}
	left := 0
	if l.writes.abandon() {
		left++
		if b := l.takeInWrite(); b != nil {
			l.session.out.wrote(&l.sender, b, l.cause)
		}
	} else {
		<-l.writerEnd
	}
	if l.reads.abandon() {
		left++
	} else {
		<-l.readerEnd
	}
	<-l.keepEnd
	if !closed(l.shutDone) {
		left++
	}
	l.session.stats.leftBehind.Add(uint64(left))
}

// closed reports whether c is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
