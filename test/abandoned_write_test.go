package mqtt_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// This file tests that a Write that was left behind reads none of the memory that the
// caller has back: it was given a copy.

// mine is what the tests write over a payload when it is theirs again.
const mine = 'X'

// takeBack writes over a payload as its owner may when the Future has resolved.
func takeBack(payload []byte) { copy(payload, bytes.Repeat([]byte{mine}, len(payload))) }

// leaveBehind ends the link of w, whose newest tunnel is stuck in a Write. It has
// lived long enough not to make the message suspect.
func leaveBehind(w *server.Wire) {
	synctest.Wait()
	time.Sleep(5 * time.Second)
	w.Send("E0 01 8B") // DISCONNECT: the server is shutting down
}

// wantCopies frees the tunnels and fails the test if a Write that was left behind
// read what is the caller's again, or wrote on.
func (ts *tunnels) wantCopies(t *testing.T, links int) {
	t.Helper()
	ts.free()
	synctest.Wait()
	for i, c := range ts.all[:links] {
		if c.calls != 1 || bytes.IndexByte(c.late.Bytes(), mine) >= 0 {
			t.Errorf("link %d: %d calls read %d bytes, %d of them the caller's", i+1, c.calls, c.late.Len(), bytes.Count(c.late.Bytes(), []byte{mine}))
		}
	}
}

// The Future of a QoS 0 message resolves with the link whose Write was left behind,
// and the payload is the caller's again.
func TestQoS0WriteLeftBehindReadsACopy(t *testing.T) {
	for _, shape := range leavingShapes {
		synctest.Test(t, func(t *testing.T) {
			ts := newTunnels(t, shape)
			d := dialThrough(t, ts.wrap)
			w := d.up(server.Connack)
			ts.last().stick()
			payload := make([]byte, 400<<10) // in several calls
			fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: payload}.GiveAway())
			leaveBehind(w)
			if p, ok := errors.AsType[*mqtt.PublishError](outcome(t, fut)); !ok || !p.MayHaveArrived {
				t.Errorf("publish: %v", fut.Err())
			}
			takeBack(payload)
			ts.wantCopies(t, 1)
		})
	}
}

// leavingShapes are tunnels of which a Write is left behind: with deadlines or
// without, and with or without success in the end.
var leavingShapes = []tunnelShape{{}, {lying: true}, {slow: true}, {lying: true, slow: true}}

// The Future of a QoS 1 message resolves with its acknowledgement on a later link,
// however many links before have left a Write of it behind. Nothing is pending then.
func TestQoS1WritesLeftBehindReadCopies(t *testing.T) {
	for _, shape := range leavingShapes {
		for _, given := range []bool{false, true} {
			for links := range 3 {
				synctest.Test(t, func(t *testing.T) {
					ts := newTunnels(t, shape)
					d := dialThrough(t, ts.wrap, mqtt.WithSession(time.Hour))
					payload := make([]byte, 400<<10)
					m := mqtt.Message{Topic: "t", QoS: 1, Payload: payload}
					if given {
						m = m.GiveAway()
					}
					w := d.up(server.Connack)
					ts.last().stick()
					fut := d.conn.Publish(t.Context(), m)
					leaveBehind(w)
					for range links {
						w = d.Accept(t.Context())
						w.ExpectPacket() // CONNECT
						ts.last().stick()
						w.Send(server.ConnackPresent)
						leaveBehind(w)
					}
					w = d.up(server.ConnackPresent)
					w.ExpectPacket()
					w.SendBytes(rawAck(0x40, fut.PacketID()))
					succeeded(t, fut)
					takeBack(payload)
					go closeAfterDisconnect(w)
					takes(t, 0, "Close", func() { wantErr(t, "Close", d.conn.Close(), nil) })
					ts.wantCopies(t, 1+links)
				})
			}
		}
	}
}

// Over WebSocket the frames that a Write makes when it was left behind are made of a
// copy as well.
func TestWebSocketWriteLeftBehindReadsACopy(t *testing.T) {
	for _, shape := range leavingShapes {
		synctest.Test(t, func(t *testing.T) {
			const size = 600 << 10
			network := &server.Network{}
			ts := newTunnels(t, shape)
			stuck := make(chan struct{})
			serveWeb(t, network, func(n int, p *webPeer) {
				p.frame() // CONNECT
				if n == 1 {
					p.send(server.Connack)
					<-stuck
					p.send("E0 01 8B") // DISCONNECT: the server is shutting down
					return
				}
				p.send(server.ConnackPresent)
				p.sendBytes(rawAck(0x40, packetID(p.read(size))))
				io.Copy(io.Discard, p.in)
			})
			d := dialURL(t, t.Context(), "ws://server/mqtt", mqtt.WithSession(time.Hour), mqtt.WithDialer(wrapped(network, ts.wrap)))
			synctest.Wait()
			first := ts.last()
			first.stick()
			payload := make([]byte, size)
			fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1, Payload: payload}.GiveAway())
			synctest.Wait()
			close(stuck)
			succeeded(t, fut)
			takeBack(payload)
			ts.free()
			synctest.Wait()
			late := &webPeer{in: bufio.NewReader(&first.late)}
			if b := late.read(0); len(b) == 0 || bytes.IndexByte(b, mine) >= 0 {
				t.Errorf("frames of %d bytes, %d of them the caller's", len(b), bytes.Count(b, []byte{mine}))
			}
		})
	}
}

// read reads frames until they hold more than size bytes, and one at least.
func (p *webPeer) read(size int) (all []byte) {
	for {
		first, b := p.frame()
		all = append(all, b...)
		if first == 0 || len(all) > size {
			return all
		}
	}
}

// packetID returns the packet identifier of a PUBLISH to the topic "t".
func packetID(publish []byte) uint16 {
	i := bytes.IndexByte(publish, 't') + 1
	return uint16(publish[i])<<8 | uint16(publish[i+1])
}
