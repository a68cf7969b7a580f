package mqtt

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/internal/sendqueue"
	"github.com/millrace/mqtt/transport"
)

// This file has the calls of a net.Conn that a link makes.

// socket is the network connection of a link, with the times of its progress.
type socket struct {
	// Immutable once the link runs.
	nc      net.Conn
	began   time.Time
	foreign bool             // its net.Conn is one of the application, whose calls may never return
	queue   *sendqueue.Queue // of the socket at the bottom, nil where it is not known
	piece   int              // the most bytes for one Write

	reads, writes              socketCalls
	closeOnce                  sync.Once
	closeCalled, closeReturned chan struct{} // closed when Close is called, and when it has returned

	// Times are nanoseconds since began.
	received atomic.Int64  // when the last byte was read
	sent     atomic.Int64  // when the last write returned
	handed   atomic.Int64  // when the last PINGREQ was handed to the writer
	pinged   atomic.Int64  // when the last PINGREQ was written
	pingEnd  atomic.Uint64 // the position in queue after that PINGREQ
}

// since returns the time now, as nanoseconds since began.
func (s *socket) since() int64 { return int64(time.Since(s.began)) }

// at returns the time that a has as nanoseconds since began.
func (s *socket) at(a *atomic.Int64) time.Time { return s.began.Add(time.Duration(a.Load())) }

// watchSocket sets queue and piece by the socket at the bottom, below TLS and WebSocket,
// which may say how much the peer's TCP has taken.
func (s *socket) watchSocket() {
	s.queue, s.piece = sendqueue.Of(s.nc), writePiece
	if b, ok := s.nc.(batchWriter); ok {
		b.SetWriteProgress(s.progress) // called for each part of a batch
	} else if _, local := s.lowest().(*net.UnixConn); s.queue == nil && !local {
		s.piece = smallPiece
	}
}

// closeSocket begins to close the socket, once. Close may block, so it has a goroutine of
// its own, which link.run waits for.
func (s *socket) closeSocket() {
	s.closeOnce.Do(func() {
		close(s.closeCalled)
		go func() {
			defer close(s.closeReturned)
			if under, below := bottom(s.nc); below {
				// TLS writes a last record, and may take 5 s for that.
				defer time.AfterFunc(killTime, func() { under.Close() }).Stop()
			}
			s.nc.Close()
		}()
	})
}

// callUntil runs f, which calls the socket for the writer, and closes the socket if f has
// not returned by the time by.
func (s *socket) callUntil(by time.Time, f func()) {
	if !s.writes.enter() {
		return
	}
	t := time.AfterFunc(time.Until(by), s.closeSocket)
	f()
	t.Stop()
	s.writes.leave()
}

// lowest returns the socket at the bottom, below TLS and WebSocket.
func (s *socket) lowest() net.Conn {
	nc, _ := bottom(s.nc)
	return nc
}

// progress notes that a write returned. The writer calls it.
func (s *socket) progress() { s.sent.Store(s.since()) }

// pingWritten notes that a PINGREQ, and no byte after it, was written, and its end in the
// socket's queue. The writer calls it.
func (s *socket) pingWritten() {
	if s.queue != nil {
		end, _ := s.queue.End() // 0 when it is not known: then the PINGREQ counts as taken
		s.pingEnd.Store(end)
	}
	s.pinged.Store(max(s.since(), 1))
}

// writePiece is the most bytes for one Write. To keepalive, a Write that returns is
// progress, besides bytes that the peer's TCP takes.
const writePiece = bufferMark + bufferMark/8

// smallPiece is the most bytes for one Write where the system does not say how much the
// peer has taken: there only a Write that returns shows progress. Unix sockets, which are
// never slow, do without.
const smallPiece = 32 << 10

// socketCalls notes whether one of a link's goroutines is in a call of the socket. A call
// may never return, when a net.Conn has no deadlines and its Close does not end the call.
// It must not hold up the end of the link: it is left behind, and when it returns its
// goroutine does not touch the link any more. Only a copy of the buffer is written to a
// socket that is not the system's, so that a call left behind reads no buffer in use.
type socketCalls struct{ state atomic.Int32 }

const (
	callNone  int32 = iota // the goroutine is not in a call
	callIn                 // the goroutine is in a call
	callEnded              // the link has ended without the goroutine
)

// enter begins a call, unless the link has ended without this goroutine.
func (s *socketCalls) enter() bool { return s.state.CompareAndSwap(callNone, callIn) }

// leave ends a call, and reports whether the goroutine may go on.
func (s *socketCalls) leave() bool { return s.state.CompareAndSwap(callIn, callNone) }

// in reports whether the goroutine is in a call that was not left behind.
func (s *socketCalls) in() bool { return s.state.Load() == callIn }

// abandon forbids further calls, and reports whether it leaves one behind.
func (s *socketCalls) abandon() bool { return s.state.Swap(callEnded) == callIn }

// bottom returns the socket below TLS and WebSocket, nc itself when it has no layers, and
// whether it is below nc.
func bottom(nc net.Conn) (under net.Conn, below bool) {
	const layers = 8 // more than there are, so that a net.Conn that returns itself ends the loop
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

// closed reports whether c is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// controlFlusher is a WebSocket connection. Only the writer writes its control frames.
type controlFlusher interface {
	SetControlNotify(func())
	FlushControl() error
}

// batchWriter is a connection that sends several pieces as one message, and calls a
// function after each part that was written.
type batchWriter interface {
	SetWriteProgress(func())
	WriteBatch([][]byte) error
}

// endMessages ends a WebSocket: its close frame follows the DISCONNECT at once
// (RFC 6455 section 7.1.2).
func endMessages(nc net.Conn) {
	if ws, ok := nc.(interface{ EndMessages() error }); ok {
		_ = ws.EndMessages()
	}
}

// shutSending ends the stream to the server: by FIN, over TLS by close_notify. A connection
// that cannot do so stays as it is.
func shutSending(nc net.Conn) {
	if c, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// closeFrame returns the close frame that the peer of a WebSocket sent, nil when it sent
// none or nc is not a WebSocket.
func closeFrame(nc net.Conn) *transport.CloseError {
	if ws, ok := nc.(interface{ CloseReceived() *transport.CloseError }); ok {
		return ws.CloseReceived()
	}
	return nil
}

// streamEnd returns the cause of a link whose peer ended the stream.
func streamEnd(nc net.Conn) error {
	if frame := closeFrame(nc); frame != nil {
		return frame
	}
	return io.ErrUnexpectedEOF
}

// waitUntil waits until ended is closed, at most until the time by, and reports whether it
// is.
func waitUntil(by time.Time, ended <-chan struct{}) bool {
	t := time.NewTimer(time.Until(by))
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}
