package mqtt_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// This file tests the end of a connection over WebSocket, frame by frame.

const (
	webMessage = 0x82
	webClose   = 0x88
	webPing    = "\x89\x01a"
)

// normalClosure is the payload of a close frame of ours (RFC 6455 section 7.4.1).
const normalClosure = "\x03\xe8"

// webEnd is a Conn over a WebSocket whose first link has come up, and the server's
// end of that. What is played there has ended when done is closed.
type webEnd struct {
	*mqtt.Conn
	done chan struct{}
}

// dialWeb connects a Conn whose first link play goes on with behind CONNACK; no
// second link is made within an hour.
func dialWeb(t *testing.T, play func(p *webPeer)) *webEnd {
	t.Helper()
	network := &server.Network{}
	e := &webEnd{done: make(chan struct{})}
	serveWeb(t, network, func(_ int, p *webPeer) {
		defer close(e.done)
		p.frame()
		p.send(server.Connack)
		play(p)
	})
	d := dialURL(t, t.Context(), "ws://server/mqtt", mqtt.WithDialer(network.Dial), mqtt.WithBackoff(steady(time.Hour)))
	e.Conn = d.conn
	synctest.Wait()
	return e
}

// expect reads a frame and fails the test unless it has that first byte and payload.
func (p *webPeer) expect(first byte, payload string) {
	p.t.Helper()
	if f, b := p.frame(); f != first || string(b) != payload {
		p.t.Errorf("frame %02X with payload % X, want %02X with % X", f, b, first, payload)
	}
}

// expectEOF fails the test unless the client shuts its sending side next.
func (p *webPeer) expectEOF() {
	p.t.Helper()
	if b, err := io.ReadAll(p.in); len(b) > 0 || err != nil {
		p.t.Errorf("% X and %v, want the end", b, err)
	}
}

// Our close frame follows the DISCONNECT at once and nothing follows it, whatever the
// server sends (RFC 6455 section 5.5.1). The server, which has answered, has half of
// the time to close before we shut the sending side (section 7.1.1).
func TestWebSocketCloseFrameFollowsDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var start time.Time
		e := dialWeb(t, func(p *webPeer) {
			p.expect(webMessage, "\xE0\x00")
			p.Write([]byte(webPing))
			p.sendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "x"))
			p.expect(webClose, normalClosure)
			p.close(normalClosure)
			wantAfter(t, "the close frame", start, 0)
			p.expectEOF()
			wantAfter(t, "FIN", start, 500*time.Millisecond)
		})
		events := e.Watch(t.Context())
		start = time.Now()
		takes(t, 500*time.Millisecond, "Close", func() { wantErr(t, "Close", e.Close(), nil) })
		wantErr(t, "Disconnected.Err", await[mqtt.Disconnected](t, events).Err, mqtt.ErrClosed)
		<-e.done
	})
}

// A server that answers the DISCONNECT by its close frame, and may have sent it before
// ours came, ends the Conn at once.
func TestWebSocketServerThatClosesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := dialWeb(t, func(p *webPeer) {
			p.expect(webMessage, "\xE0\x00")
			p.close(normalClosure)
			p.expect(webClose, normalClosure)
		})
		events := e.Watch(t.Context())
		takes(t, 0, "Close", func() { wantErr(t, "Close", e.Close(), nil) })
		wantErr(t, "Disconnected.Err", await[mqtt.Disconnected](t, events).Err, mqtt.ErrClosed)
		<-e.done
	})
}

// A close frame follows the DISCONNECT that says what the server did wrong, too.
func TestWebSocketCloseFrameFollowsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := dialWeb(t, func(p *webPeer) {
			start := time.Now()
			p.send("C0 00") // PINGREQ from a server
			p.expect(webMessage, "\xE0\x01\x82")
			p.expect(webClose, normalClosure)
			wantAfter(t, "the close frame", start, 0)
			p.expectEOF()
			wantAfter(t, "FIN", start, 250*time.Millisecond)
		})
		<-e.done
	})
}
