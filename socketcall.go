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
// goroutine touches nothing of the link any more when it returns.
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
			if _, over := l.nc.(interface{ NetConn() net.Conn }); over {
				// TLS writes a last record, for which it takes up to 5 s.
				defer time.AfterFunc(killTime, func() { bottom(l.nc).Close() }).Stop()
			}
			l.nc.Close()
		}()
	})
}

// awaitEnd waits until the link's goroutines have ended, which ended tells, and
// its socket is closed. What does not return killTime after the socket was to be
// closed is left behind.
func (l *link) awaitEnd(ended <-chan struct{}) {
	<-l.shutting
	by := time.Now().Add(killTime)
	if waitUntil(by, l.shutDone) && waitUntil(by, ended) {
		return
	}
	left := 0
	if l.writes.abandon() {
		left++
		l.conn.out.writeLeft(l)
	} else {
		<-l.writerEnd
	}
	if l.reads.abandon() {
		left++
	} else {
		<-l.readerEnd
	}
	if !waitUntil(time.Now(), l.shutDone) {
		left++
	}
	l.conn.stats.leftBehind.Add(uint64(left))
}

// writeLeft takes over the buffer that the writer of l is writing and will not
// come back with.
func (o *outbound) writeLeft(l *link) {
	o.mu.Lock()
	b := l.inWrite
	o.mu.Unlock()
	if b == nil {
		return
	}
	b.resolve(&PublishError{MayHaveArrived: true, Err: linkLost(l.cause)})
	o.mu.Lock()
	defer o.unlock()
	l.writing0 = 0
	o.accepted -= b.n0
	o.bytes -= b.size0
	if l.copies {
		o.letGo(b.held) // the write reads a copy
	}
	o.checkFlush()
}

// writeReturned takes back the payloads of a write that was left behind: until
// now nothing of them could be reused.
func (o *outbound) writeReturned(l *link, b *outbuf) {
	o.mu.Lock()
	defer o.unlock()
	if !l.copies {
		o.letGo(b.held)
	}
}

// attemptGrace is how long an attempt whose context has ended may still take: a
// DISCONNECT for a server that may have accepted it, and the calls of the socket.
const attemptGrace = faultWords + killTime

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
