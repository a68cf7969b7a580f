// WebSocketConn: a stream of bytes over binary WebSocket messages.

package transport

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/millrace/mqtt/internal/sendqueue"
)

// ErrTextFrame is returned by Read when the peer sends a text message: MQTT
// travels in binary ones [MQTT-6.0.0-1].
var ErrTextFrame = errors.New("transport: websocket: the peer sent a text frame")

// ErrConcurrentWrite is returned to the second of two goroutines that write
// to a WebSocketConn at the same time.
var ErrConcurrentWrite = errors.New("transport: websocket: concurrent write; one goroutine may write")

// A WebSocketConn is a net.Conn over WebSocket. Read gives the payload of
// binary messages as one stream: message and frame boundaries do not show
// [MQTT-6.0.0-2], and no message is buffered whole.
//
// One goroutine, the writer, calls Write, WriteBatch and FlushControl. Read
// never writes: what the peer's ping and close frames call for is kept until
// the writer sends it. Close and the deadline setters may be called by anyone.
// A read or write that passed its deadline leaves the connection unusable.
type WebSocketConn struct {
	ws   *websocket.Conn
	gate *gate
	raw  net.Conn // the socket at the bottom

	state atomic.Int32 // idle, writing or closed
	ended atomic.Bool  // EndMessages has sent our close frame

	// Owned by the reader.
	message io.Reader // the rest of the message being read, nil between two
	readErr error     // final: gorilla panics if a failed connection is read on

	control control
}

const (
	idle int32 = iota
	writing
	closed
)

func newWebSocketConn(ws *websocket.Conn, g *gate, raw net.Conn) *WebSocketConn {
	c := &WebSocketConn{ws: ws, gate: g, raw: raw}
	g.endHandshake()
	if sendqueue.Of(raw) == nil {
		g.piece = smallPiece
	}
	ws.SetPingHandler(c.control.pinged)
	ws.SetCloseHandler(c.control.closeReceived)
	return c
}

// Subprotocol returns what the server chose, the first name if it answered with
// several; empty if it chose none.
func (c *WebSocketConn) Subprotocol() string { return chosenSubprotocol(c.ws.Subprotocol()) }

// CloseReceived returns the peer's close frame, nil when none came: code 1005
// stands for one without a code (RFC 6455 section 7.1.5). Anyone may call it.
func (c *WebSocketConn) CloseReceived() *CloseError { return c.control.peerClose() }

// Read reads payload of binary messages. A close frame that says no more than
// that the stream has ended, code 1000 or none and no text, is io.EOF, any
// other a [*CloseError]; an end without one is io.ErrUnexpectedEOF. A text
// message is [ErrTextFrame]. Every error is final.
func (c *WebSocketConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, c.readErr
	}
	for c.readErr == nil {
		if c.message == nil {
			c.nextMessage()
			continue
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message = nil
		} else if err != nil {
			c.readErr = c.readProblem(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.readErr
}

func (c *WebSocketConn) nextMessage() {
	kind, message, err := c.ws.NextReader()
	switch {
	case err != nil:
		c.readErr = c.readProblem(err)
	case kind != websocket.BinaryMessage:
		c.control.owe(websocket.CloseUnsupportedData)
		c.readErr = ErrTextFrame
	default:
		c.message = message
	}
}

// readProblem prefers the socket's own error to gorilla's copy of its text.
func (c *WebSocketConn) readProblem(err error) error {
	if c.gate.readErr != nil && c.gate.readErr != io.EOF {
		return c.gate.readErr
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF // the socket ended; only a close frame is an end
	}
	end, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return err
	}
	if c.ended.Load() {
		c.awaitEOF()
		return io.EOF
	}
	if end.Code == websocket.CloseAbnormalClosure {
		return io.ErrUnexpectedEOF
	}
	came := CloseError{Code: end.Code, Text: end.Text}
	if came.Plain() {
		return io.EOF
	}
	return &came
}

// awaitEOF reads on, after both close frames, until the server closes the socket
// (RFC 6455 section 7.1.1): before that it may not have acted on what it was sent.
func (c *WebSocketConn) awaitEOF() {
	_, _ = io.Copy(io.Discard, c.gate.Conn)
}

// Write sends p as one binary message. Only the writer may call it.
func (c *WebSocketConn) Write(p []byte) (int, error) {
	if err := c.WriteBatch([][]byte{p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteBatch sends all of bufs as one binary message, in one frame if they fit in
// 128 KiB together, else in frames of that size. Before it and after each frame
// go the control frames that are owed, so that a ping does not wait for the end of
// a large message (RFC 6455 section 5.4). It copies, so bufs may be reused when it
// returns. Nothing is sent if all are empty. Only the writer may call it; an error
// is final. See [WebSocketConn.SetWriteProgress].
func (c *WebSocketConn) WriteBatch(bufs [][]byte) error {
	return c.asWriter(func() error {
		if err := c.control.flush(c.ws); err != nil {
			return err
		}
		return c.writeMessage(bufs)
	})
}

func (c *WebSocketConn) writeMessage(bufs [][]byte) error {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	if size == 0 {
		return nil
	}
	w, err := c.ws.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	for _, b := range bufs {
		if err := c.writeFrames(w, b); err != nil {
			return err
		}
	}
	return c.gate.data(w.Close)
}

// writeFrames adds b to the message. What gorilla is given at once fills no more
// than one frame.
func (c *WebSocketConn) writeFrames(w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeBuffer)
		before := c.gate.writes
		if err := c.gate.data(func() error { _, err := w.Write(b[:n]); return err }); err != nil {
			return err
		}
		b = b[n:]
		if c.gate.writes > before {
			if err := c.control.flush(c.ws); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetWriteProgress sets a function that is called when a part of a message has
// been handed to the socket, at least after each frame, by the goroutine that
// writes. Control frames do not count. It must be set before the first write that
// it is to see.
func (c *WebSocketConn) SetWriteProgress(progress func()) { c.gate.progress = progress }

// SetControlNotify sets the function that tells the writer that FlushControl
// has something to send. The reader calls it from within Read, so it must not
// block; it must be set before the first Read.
func (c *WebSocketConn) SetControlNotify(notify func()) { c.control.setNotify(notify) }

// FlushControl sends the control frames that are owed: the answer to the
// latest ping (RFC 6455 section 5.5.3 lets it stand for earlier ones) and to a
// close frame. There is never more than one of each. Only the writer may call
// it.
func (c *WebSocketConn) FlushControl() error {
	return c.asWriter(func() error { return c.control.flush(c.ws) })
}

// EndMessages sends a close frame, after which nothing can be written (RFC 6455
// section 7.1.2). Read goes on: it returns io.EOF when the server has answered
// by its own close frame and closed the socket. Only the writer may call it.
func (c *WebSocketConn) EndMessages() error {
	c.ended.Store(true) // before the answer can come
	return c.asWriter(func() error {
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		return c.ws.WriteControl(websocket.CloseMessage, goodbye, time.Time{})
	})
}

// CloseWrite shuts the sending side of the connection below, where that can be
// done: TCP, unix sockets and TLS. Only the writer may call it.
func (c *WebSocketConn) CloseWrite() error {
	if below, ok := c.gate.Conn.(interface{ CloseWrite() error }); ok {
		return below.CloseWrite()
	}
	return nil
}

// NetConn returns the socket at the bottom. What is read from it or written to
// it is lost to the WebSocket connection.
func (c *WebSocketConn) NetConn() net.Conn { return c.raw }

// asWriter runs write with the gate open, unless another write or Close came
// first.
func (c *WebSocketConn) asWriter(write func() error) error {
	if !c.state.CompareAndSwap(idle, writing) {
		if c.state.Load() == closed {
			return net.ErrClosed
		}
		return ErrConcurrentWrite
	}
	c.gate.open.Store(true)
	err := write()
	c.gate.open.Store(false)
	c.state.CompareAndSwap(writing, idle)
	if err != nil {
		return c.writeProblem(err)
	}
	return nil
}

// writeProblem names the peer's close frame where gorilla would say that ours,
// the answer to it, was sent: which of reader and writer fails first is chance.
func (c *WebSocketConn) writeProblem(err error) error {
	if end := c.CloseReceived(); end != nil && errors.Is(err, websocket.ErrCloseSent) {
		return end
	}
	return c.gate.writeProblem(err)
}

// Close closes the connection. It says goodbye with a close frame only if no
// write is in progress, and takes at most a fraction of a second even if the
// peer does not read. A second Close does nothing.
func (c *WebSocketConn) Close() error {
	switch c.state.Swap(closed) {
	case closed:
		return nil
	case writing:
		return c.raw.Close()
	}
	return closeWithin(closeGrace, c.raw, func() error {
		c.gate.open.Store(true)
		goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = c.ws.WriteControl(websocket.CloseMessage, goodbye, time.Time{})
		return c.ws.Close()
	})
}

// LocalAddr returns the local address of the socket.
func (c *WebSocketConn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr returns the remote address of the socket: with a proxy, the
// proxy's.
func (c *WebSocketConn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *WebSocketConn) SetDeadline(t time.Time) error { return c.gate.Conn.SetDeadline(t) }

// SetReadDeadline ends a Read that is in progress at t, or none if t is zero.
func (c *WebSocketConn) SetReadDeadline(t time.Time) error { return c.gate.Conn.SetReadDeadline(t) }

// SetWriteDeadline ends a write that is in progress at t, or none if t is zero.
func (c *WebSocketConn) SetWriteDeadline(t time.Time) error { return c.gate.Conn.SetWriteDeadline(t) }
