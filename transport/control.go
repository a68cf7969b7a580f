// control: the answers to ping and close frames, from reader to writer.

package transport

import (
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// control is what the reader owes the peer and the writer sends.
type control struct {
	mu      sync.Mutex // guards all; never held across I/O or notify
	notify  func()
	pongDue bool
	pong    []byte
	close   []byte      // nil if no close frame is due
	peer    *CloseError // the close frame that came, nil before
}

func (o *control) setNotify(notify func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notify = notify
}

// pinged is gorilla's ping handler.
func (o *control) pinged(data string) error {
	o.mu.Lock()
	o.pongDue, o.pong = true, append(o.pong[:0], data...)
	notify := o.notify
	o.mu.Unlock()
	if notify != nil {
		notify()
	}
	return nil
}

// closeReceived is gorilla's close handler. The answer repeats the code.
func (o *control) closeReceived(code int, text string) error {
	o.mu.Lock()
	o.peer = &CloseError{Code: code, Text: text}
	o.mu.Unlock()
	o.owe(code)
	return nil
}

func (o *control) peerClose() *CloseError {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.peer
}

func (o *control) owe(code int) {
	o.mu.Lock()
	// FormatCloseMessage gives an empty, non-nil payload for "no status".
	o.close = websocket.FormatCloseMessage(code, "")
	notify := o.notify
	o.mu.Unlock()
	if notify != nil {
		notify()
	}
}

func (o *control) flush(ws *websocket.Conn) error {
	o.mu.Lock()
	pongDue, pong, end := o.pongDue, o.pong, o.close
	o.pongDue, o.pong, o.close = false, nil, nil
	o.mu.Unlock()
	if pongDue {
		if err := ws.WriteControl(websocket.PongMessage, pong, time.Time{}); err != nil {
			return err
		}
	}
	if end != nil {
		return ws.WriteControl(websocket.CloseMessage, end, time.Time{})
	}
	return nil
}
