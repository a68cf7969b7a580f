package mqtt

import (
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/transport"
)

// This file has what the project asks of a net.Conn.

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

// controlFlusher is what a WebSocket connection needs from our writer: its
// control frames are written by it alone.
type controlFlusher interface {
	SetControlNotify(func())
	FlushControl() error
}

// batchWriter is a connection that sends several pieces as one message, and calls
// a function after each part of it that went through.
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

// shutSending tells the server that nothing more comes: by FIN, over TLS by
// close_notify. A connection that cannot do so stays as it is.
func shutSending(nc net.Conn) {
	if c, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

// closeFrame returns the close frame that the peer of a WebSocket sent, nil when
// none came or nc is another connection.
func closeFrame(nc net.Conn) *transport.CloseError {
	if ws, ok := nc.(interface{ CloseReceived() *transport.CloseError }); ok {
		return ws.CloseReceived()
	}
	return nil
}

// streamEnd is the cause of a link whose peer ended the stream.
func streamEnd(nc net.Conn) error {
	if frame := closeFrame(nc); frame != nil {
		return frame
	}
	return io.ErrUnexpectedEOF
}

// waitUntil waits for ended until the time by, and reports whether it came.
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
