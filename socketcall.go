package mqtt

import (
	"context"
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

// attemptGrace is how long an attempt whose context has ended may still take: a
// DISCONNECT for a server that may have accepted it, and the calls of the socket.
const attemptGrace = faultTime + killTime

// made is what came of an attempt.
type made struct {
	attempt attempt
	to      addressTry
	link    *link
	err     error
}

// dial runs the attempt within ctx in a goroutine of its own, so that a call of
// the socket, or of a dialer of the user's, that outlives ctx is left behind. It
// returns a link that is not running yet.
func (a *attempt) dial(ctx context.Context) (*link, error) {
	m := &made{attempt: *a, to: *a.to} // what is left behind works on a copy
	m.attempt.to = &m.to
	done := make(chan struct{})
	go func() { // ends with the attempt; waited for here, but for one that is left behind
		defer close(done)
		m.err = a.fail("dial", &CallbackError{Function: dialerFunc, Exited: true}) // unless it returns
		m.link, m.err = m.attempt.connectOnce(ctx)
	}()
	select {
	case <-done:
		return a.take(m)
	case <-ctx.Done():
	}
	if waitUntil(time.Now().Add(attemptGrace), done) {
		return a.take(m)
	}
	a.c.stats.leftBehind.Add(1)
	go func() { // ends when the call that was left behind returns
		if <-done; m.link != nil {
			m.link.nc.Close()
		}
	}()
	return nil, a.fail("dial", context.Cause(ctx))
}

// take takes over what the attempt has learned.
func (a *attempt) take(m *made) (*link, error) {
	to := a.to
	*to = m.to
	*a = m.attempt
	a.to = to
	return m.link, m.err
}
