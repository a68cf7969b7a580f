package mqtt

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
	"golang.org/x/sync/errgroup"
)

// link is one network connection from CONNACK to its end. Three goroutines run
// it under one errgroup that the Conn's supervisor waits for: the reader, the writer and
// the keepalive. The first one that ends kills the link, which ends the others.
type link struct {
	// Immutable.
	session *session
	server  string
	address string // of the server's host, empty when the host was not looked up
	connack codec.Connack
	framer  *codec.Framer // the reader's, with the bytes after the CONNACK

	sender
	socket

	ponged  int64        // the value of pinged for the last PINGRESP; the reader's
	paused  atomic.Bool  // the reader waits for a consumer
	resumed atomic.Int64 // when that wait ended last

	ignoring       atomic.Bool   // messages that arrive are ignored, so that the server keeps them: the DISCONNECT is in the buffer, or comes next
	handling       atomic.Bool   // the reader handles packets that it has read
	handled        chan struct{} // closed by the reader when it has handled the packets that it read before ignoring was set
	ignoreBegun    chan struct{} // closed with ignoring
	ignoreOnce     sync.Once
	endRequested   chan struct{} // closed when the keepalive goroutine is to end the link in order, for Reconnect
	requestOnce    sync.Once
	disconnectSent bool          // the DISCONNECT was written whole; set before disconnectDone is closed
	disconnectDone chan struct{} // closed by the writer when it has written the DISCONNECT, or cannot

	end   sync.Once
	cause error // why the link ended; set before dead is closed

	readerEnd, writerEnd, keepEnd chan struct{} // closed by reader, writer and keepalive as their last act
	killTimer                     *time.Timer   // closes the socket when a write does not end after kill; set before dead is closed

	control controlFlusher // of a WebSocket, nil otherwise
}

// prepare ties the link to its sender, which out guards.
func (l *link) prepare(out *outbound) {
	l.sender.mu, l.sender.kill = &out.mu, l.kill
	l.work = make(chan struct{}, 1)
	for _, c := range []*chan struct{}{&l.handled, &l.ignoreBegun, &l.endRequested, &l.disconnectDone, &l.dead, &l.keepEnd, &l.readerEnd, &l.writerEnd, &l.closeCalled, &l.closeReturned} {
		*c = make(chan struct{})
	}
}

// run runs the link until it ends and returns why.
func (l *link) run() error {
	var g errgroup.Group
	if c, ok := l.nc.(controlFlusher); ok {
		l.control = c
		c.SetControlNotify(l.wake)
	}
	l.watchSocket()
	g.Go(func() error {
		defer close(l.readerEnd)
		defer l.exited()
		l.kill(l.read())
		l.discardRest()
		return nil
	})
	g.Go(func() error {
		defer close(l.writerEnd)
		defer l.closeSocket() // if the writer ended before it closed the socket
		defer l.exited()
		l.writer()
		return nil
	})
	g.Go(func() error {
		defer close(l.keepEnd)
		l.keepalive()
		return nil
	})
	<-l.dead
	ended := make(chan struct{})
	go func() { // ends with the three goroutines, and is left behind with one that is
		g.Wait()
		close(ended)
	}()
	l.awaitGoroutines(ended)
	return l.explain(l.cause)
}

// kill ends the link with a cause; the first one counts.
func (l *link) kill(cause error) {
	l.end.Do(func() {
		l.cause = cause
		// A write that has begun gets killTime to end, so that the DISCONNECT with the
		// reason can follow it. None follows to a dead peer, or at the end of the time.
		grace := killTime
		if cause == ErrKeepAlive || cause == errLocalClose {
			grace = 0
		}
		if l.nc.SetWriteDeadline(time.Now().Add(grace)) == nil {
			grace = killTime
		}
		l.killTimer = time.AfterFunc(grace, l.closeSocket)
		close(l.dead)
	})
}

// awaitGoroutines waits until ended is closed, when the link's goroutines have ended, and
// the socket is closed. Calls of a foreign socket that have not returned killTime after
// that was to be closed are left behind.
func (l *link) awaitGoroutines(ended <-chan struct{}) {
	<-l.closeCalled
	if !l.foreign {
		<-ended
		<-l.closeReturned
		return
	}
	by := time.Now().Add(killTime)
	if waitUntil(by, l.closeReturned) && waitUntil(by, ended) {
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
	if !closed(l.closeReturned) {
		left++
	}
	l.session.stats.leftBehind.Add(uint64(left))
}

// exited ends the link when a packet hook, or a method of the application's net.Conn, ended
// one of its goroutines. A goroutine that returns has killed the link before.
func (l *link) exited() {
	name := packetHook
	if l.session.hooks.hook == nil {
		name = dialedConn
	}
	l.kill(&CallbackError{Function: name, Exited: true})
}
