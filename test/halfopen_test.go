package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A peer that silently drops everything after CONNACK is found within keep
// alive and ping timeout, once, while the client publishes; also when the send
// buffer is full. Then the Conn reconnects.
func TestHalfOpenLinkIsFound(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   func(*server.Wire)
		payload int
	}{
		{"drop", func(w *server.Wire) { w.Drop(server.Both) }, 10},
		{"full send buffer", func(w *server.Wire) { w.Stall(server.Both) }, 64 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				d := dial(t, mqtt.WithVersions(v), mqtt.WithKeepAlive(20*time.Second), mqtt.WithPingTimeout(5*time.Second))
				d.Timeout = time.Minute
				w := d.up(connack(v, false))
				tt.fault(w)
				began := time.Now()
				stop := make(chan struct{})
				go func() {
					for payload := make([]byte, tt.payload); ; {
						d.conn.TryPublish(mqtt.Message{Topic: "t", Payload: payload})
						select {
						case <-stop:
							return
						case <-time.After(100 * time.Millisecond):
						}
					}
				}()
				ev := await[mqtt.Disconnected](t, d.conn.Events())
				took := time.Since(began)
				close(stop)
				wantErr(t, "Disconnected", ev.Err, mqtt.ErrKeepAlive)
				if took > 25*time.Second {
					t.Errorf("found dead after %v, want within 25 s", took)
				}
				w = d.up(connack(v, false))
				for _, ev := range drainEvents(d.conn.Events()) {
					if _, again := ev.(mqtt.Disconnected); again {
						t.Error("a second Disconnected for one link")
					}
				}
				// The new link begins with no ping state of the old one.
				if v != mqtt.V31 {
					w.ExpectNothing(18*time.Second - time.Millisecond)
				}
			})
		})
	}
}

// An answer just before the deadline, and any byte of any packet, counts as life.
func TestAnyByteOfAnyPacketIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithKeepAlive(20*time.Second), mqtt.WithPingTimeout(5*time.Second), mqtt.WithVersions(mqtt.V5))
		d.Timeout = time.Minute
		w := d.up(server.Connack)
		for range 3 {
			w.Expect(server.Pingreq)
			time.Sleep(5*time.Second - time.Millisecond)
			w.Send(server.Pingresp)
		}
		// A PUBLISH of 30 bytes that takes as many times the ping timeout to come.
		w.Expect(server.Pingreq)
		w.Send("30 1E 0001 74 00")
		for range 26 {
			time.Sleep(4 * time.Second)
			w.Send("78")
		}
		if s := d.conn.State(); s != mqtt.StateConnected {
			t.Errorf("state %v, want connected", s)
		}
	})
}

// Server Keep Alive holds on its connection only; 0 means no pings.
func TestServerKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithKeepAlive(20*time.Second), mqtt.WithVersions(mqtt.V5))
		d.Timeout = time.Hour
		pingAfter := func(w *server.Wire, want time.Duration) {
			t.Helper()
			began := time.Now()
			w.Expect(server.Pingreq)
			if took := time.Since(began); took != want-min(want/10, 5*time.Second) {
				t.Errorf("PINGREQ after %v, want it a tenth, at most 5 s, before %v", took, want)
			}
			w.Send(server.Pingresp)
			synctest.Wait()
			w.Cut()
		}
		pingAfter(d.up("20 06 00 00 03 13 0005"), 5*time.Second)   // [MQTT-3.1.2-21] [MQTT-3.2.2-21]
		pingAfter(d.up("20 06 00 00 03 13 012C"), 300*time.Second) // a larger one
		pingAfter(d.up(server.Connack), 20*time.Second)
		w := d.up("20 06 00 00 03 13 0000")
		w.ExpectNothing(24 * time.Hour)
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		w.Send("40 02 0001")
		succeeded(t, fut)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithKeepAlive(-1))
		d.up(server.Connack).ExpectNothing(24 * time.Hour)
	})
}

// [MQTT-3.1.2-20]: receiving does not count, PINGREQ comes all the same.
func TestPingWhileOnlyReceiving(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithKeepAlive(20*time.Second))
		w := d.up(connack(v, false))
		for range 20 {
			time.Sleep(time.Second)
			w.SendBytes(rawPublish(v, 0x30, 0, "t", "x"))
		}
		synctest.Wait()
		w.Expect(server.Pingreq)
	})
}

// The ack timeout, an option, recycles the link.
func TestAckTimeoutRecyclesTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithSession(time.Hour), mqtt.WithAckTimeout(8*time.Second))
		d.Timeout = time.Minute
		w := d.up(server.Connack3)
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.Expect("32 05 0001 74 0001")
		began := time.Now()
		w.ExpectEOF()
		if took := time.Since(began); took < 8*time.Second || took > 11*time.Second {
			t.Errorf("recycled after %v, want about 8 s", took)
		}
		w = d.up(server.Connack3Present)
		w.Expect("3A 05 0001 74 0001")
		w.Send("40 02 0001")
		succeeded(t, fut)
	})
}
