package mqtt_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// This file tests how long the end of a Conn takes, whatever it meets and however
// many callers end it.

// A caller with more time than the first one had does not make the end later, also
// when its context has ended and so leaves 1 s.
func TestLaterCallerDoesNotExtendTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		time.AfterFunc(700*time.Millisecond, func() { d.conn.Disconnect(ended(t)) })
		takes(t, time.Second, "Disconnect", func() { d.conn.Disconnect(lasting(t, time.Second)) })
		w.Expect("E0 00")
	})
}

// A caller with less time than those before it makes the end earlier, however far
// that has got.
func TestImpatientCallerHastensTheEnd(t *testing.T) {
	pending := func(d *dialed, w *server.Wire) {
		d.conn.Publish(d.t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		go d.conn.Close()
		synctest.Wait()
	}
	begun := map[string]func(d *dialed, w *server.Wire){
		"publishes are waited for": pending,
		"another one hastened it": func(d *dialed, w *server.Wire) {
			pending(d, w)
			go d.conn.Disconnect(ended(d.t))
			w.Expect("E0 00")
		},
		"a PUBREL is waited for": func(d *dialed, w *server.Wire) {
			w.SendBytes(rawPublish(mqtt.V5, 0x34, 1, "t", "x"))
			w.ExpectBytes(rawAck(0x50, 1))
			go d.conn.Close()
			synctest.Wait()
		},
		"the server is waited for": func(d *dialed, w *server.Wire) {
			go d.conn.Close()
			w.Expect("E0 00")
		},
	}
	for how, caller := range callers {
		for when, begin := range begun {
			t.Run(how+" when "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := dial(t, mqtt.WithSubscription("t", mqtt.QoS(2)))
					w := d.up(server.Connack)
					w.ExpectPacket() // SUBSCRIBE
					d.conn.Subscription("t").C()
					begin(d, w)
					takes(t, caller.limit, how, func() { caller.end(d.conn, t) })
				})
			})
		}
	}
}

// callers are ways to end a Conn within a limit.
var callers = map[string]struct {
	limit time.Duration
	end   func(c *mqtt.Conn, t *testing.T)
}{
	"Disconnect": {100 * time.Millisecond, func(c *mqtt.Conn, t *testing.T) { c.Disconnect(lasting(t, 100*time.Millisecond)) }},
	"Drain":      {100 * time.Millisecond, func(c *mqtt.Conn, t *testing.T) { c.Drain(lasting(t, 100*time.Millisecond)) }},
	"Abort":      {0, func(c *mqtt.Conn, _ *testing.T) { c.Abort() }},
}

// While CONNACK is on its way a Conn ends within the caller's time too; a DISCONNECT
// is sent unless it is Abort.
func TestEndDuringHandshakeKeepsTheCallersTime(t *testing.T) {
	for how, caller := range callers {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t)
				w := d.Accept(t.Context())
				w.ExpectPacket() // CONNECT
				takes(t, caller.limit, how, func() { caller.end(d.conn, t) })
				if how != "Abort" {
					w.Expect("E0 00")
				}
				w.ExpectEOF()
			})
		})
	}
}

// Abort, and the end of Connect's context, do not wait for the server of the
// connection that makes it forget a session.
func TestEndDuringFreshStart(t *testing.T) {
	ends := map[string]func(c *mqtt.Conn, stop func()){
		"Abort":                        func(c *mqtt.Conn, _ func()) { c.Abort() },
		"the end of Connect's context": func(c *mqtt.Conn, stop func()) { stop(); <-c.Done() },
	}
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				scope, stop := context.WithCancel(t.Context())
				defer stop()
				d := dialURL(t, scope, "mqtt://server", mqtt.WithVersions(mqtt.V311), mqtt.WithSession(time.Hour), mqtt.WithFreshStart())
				w, _ := d.accept(server.Connack3)
				w.Expect("E0 00")
				synctest.Wait()
				takes(t, 0, how, func() { end(d.conn, stop) })
				w.ExpectEOF()
			})
		})
	}
}

// Abort does not wait for a server that is being told what it did wrong.
func TestAbortBehindFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		w.Send("C0 00") // PINGREQ from a server
		w.Expect("E0 01 82")
		takes(t, 0, "Abort", d.conn.Abort)
	})
}

// A server that takes no bytes, so that the DISCONNECT cannot be written, leaves the
// caller's time as it is.
func TestStalledServerDoesNotExtendTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		w.Stall(server.ToServer)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 1<<20)})
		synctest.Wait()
		takes(t, 400*time.Millisecond, "Disconnect", func() { d.conn.Disconnect(lasting(t, 400*time.Millisecond)) })
	})
}

// A Disconnect behind a Reconnect keeps to its own time, and says when the server
// could not be told its reason.
func TestDisconnectBehindReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		w := d.up(server.Connack) // never closes
		if err := d.conn.Reconnect(); err != nil {
			t.Fatal(err)
		}
		w.Expect("E0 00")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		wantErr(t, "Disconnect", d.conn.Disconnect(ctx, mqtt.WithReason(codec.DisconnectWithWill)), mqtt.ErrNotConnected)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		w.ExpectEOF()
	})
}
