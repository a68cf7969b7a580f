package broker

import (
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// webSocket is a listener for the server that takes a net.Listener: the server's
// own takes an address, and could not say which free port it got.
type webSocket struct {
	listener net.Listener
	server   *http.Server
	served   chan struct{}
}

// ID names the listener.
func (w *webSocket) ID() string { return "ws" }

// Address is where it listens.
func (w *webSocket) Address() string { return w.listener.Addr().String() }

// Protocol names the transport.
func (w *webSocket) Protocol() string { return "ws" }

// Init prepares it.
func (w *webSocket) Init(*slog.Logger) error {
	w.server = &http.Server{}
	w.served = make(chan struct{})
	return nil
}

// Serve accepts connections until Close. The server runs it in a goroutine of
// its own, for which Close waits.
func (w *webSocket) Serve(establish listeners.EstablishFn) {
	defer close(w.served)
	upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	w.server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(rw, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		establish(w.ID(), &stream{Conn: c.UnderlyingConn(), ws: c})
	})
	w.server.Serve(w.listener)
}

// Close ends the listener and its clients.
func (w *webSocket) Close(closeClients listeners.CloseFn) {
	closeClients(w.ID())
	w.server.Close()
	<-w.served
}

// stream is a WebSocket as a byte stream.
type stream struct {
	net.Conn
	ws      *websocket.Conn
	message io.Reader
}

// Read reads on over the borders of messages.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.message == nil {
			_, r, err := s.ws.NextReader()
			if err != nil {
				return 0, err
			}
			s.message = r
		}
		n, err := s.message.Read(p)
		if err == io.EOF {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends p as one binary message.
func (s *stream) Write(p []byte) (int, error) {
	if err := s.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
