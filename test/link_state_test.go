package mqtt_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// linkStateRows are packets that a server must not send, or not then.
var linkStateRows = []struct {
	name string
	v    mqtt.Version
	ack  string // what answers CONNECT
	send string // once the link is up; empty: the answer is at fault
	want string // before the end
	code codec.ReasonCode
}{
	{"PUBLISH before CONNACK", mqtt.V5, "30 04 0001 74 00", "", "E0 01 82", 0x82}, // [MQTT-3.2.0-1]
	{"DISCONNECT before CONNACK", mqtt.V5, "E0 00", "", "E0 01 82", 0x82},         // [MQTT-3.14.0-1]
	{"PUBLISH before CONNACK 3.1.1", mqtt.V311, "30 03 0001 74", "", "", 0x82},
	{"CONNACK flags", mqtt.V5, "20 03 02 00 00", "", "E0 01 81", 0x81},                       // [MQTT-3.2.2-1]
	{"session present after a clean start", mqtt.V5, "20 03 01 00 00", "", "E0 01 82", 0x82}, // [MQTT-3.2.2-4]
	{"session present after a clean start 3.1.1", mqtt.V311, "20 02 01 00", "", "", 0x82},
	{"Receive Maximum 0", mqtt.V5, "20 06 00 00 03 21 0000", "", "E0 01 82", 0x82},
	{"authentication method unasked", mqtt.V5, "20 07 00 00 04 15 0001 78", "", "E0 01 82", 0x82}, // [MQTT-4.12.0-6]
	{"second CONNACK", mqtt.V5, "", server.Connack, "E0 01 82", 0x82},                             // [MQTT-3.2.0-2]
	{"second CONNACK 3.1.1", mqtt.V311, "", server.Connack3, "", 0x82},
	{"CONNECT", mqtt.V5, "", "10 0E 0004 4D515454 05 02 0000 00 0001 63", "E0 01 82", 0x82},
	{"SUBSCRIBE", mqtt.V5, "", "82 07 0001 00 0001 74 00", "E0 01 82", 0x82},
	{"UNSUBSCRIBE", mqtt.V5, "", "A2 06 0001 00 0001 74", "E0 01 82", 0x82},
	{"PINGREQ", mqtt.V5, "", "C0 00", "E0 01 82", 0x82}, // [MQTT-3.12.4-1]
	{"PINGREQ 3.1", mqtt.V31, "", "C0 00", "", 0x82},
	{"AUTH unasked", mqtt.V5, "", "F0 00", "E0 01 82", 0x82}, // [MQTT-4.12.0-6]
	{"AUTH 3.1.1", mqtt.V311, "", "F0 00", "", 0},
	{"DISCONNECT 3.1.1", mqtt.V311, "", "E0 00", "", 0x82},
	{"DISCONNECT with session expiry", mqtt.V5, "", "E0 07 00 05 1100000001", "E0 01 82", 0x82},      // [MQTT-3.14.2-2]
	{"packet larger than ours", mqtt.V5, "", "30 FF FF FF 7F", "E0 01 95", 0x95},                     // [MQTT-3.1.2-24]
	{"topic alias", mqtt.V5, "", "30 07 0001 74 03 23 0001", "E0 01 94", 0x94},                       // [MQTT-3.1.2-27]
	{"wildcard in a topic", mqtt.V5, "", "30 06 0003 612F23 00", "E0 01 81", 0x81},                   // [MQTT-3.3.2-2]
	{"wildcard in a QoS 2 topic", mqtt.V5, "", "34 06 0001 2B 0001 00", "E0 01 81", 0x81},            // [MQTT-3.3.2-2]
	{"wildcard in a topic 3.1.1", mqtt.V311, "", "30 05 0003 612F23", "", 0x81},                      // [MQTT-3.3.2-2]
	{"wildcard in a response topic", mqtt.V5, "", "30 09 0001 74 05 08 0002 612B", "E0 01 82", 0x82}, // [MQTT-3.3.2-14]
	{"type 0", mqtt.V5, "", "00 00", "E0 01 81", 0x81},
	{"PUBREL flags", mqtt.V5, "", "60 02 0001", "E0 01 81", 0x81}, // [MQTT-3.6.1-1]
}

// What a server may send only in some states of a link, or never: the link ends, on
// 5.0 by a DISCONNECT with the reason code.
func TestLinkStateRows(t *testing.T) {
	for _, tt := range linkStateRows {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, mqtt.WithVersions(tt.v))
				var got []byte
				if tt.send == "" {
					w, _ := d.accept(tt.ack)
					got = w.Rest()
				} else {
					w := d.up(connack(tt.v, false))
					w.Send(tt.send)
					got = w.Rest()
				}
				if want := server.Hex(tt.want); string(got) != string(want) {
					t.Errorf("got % X before the end, want % X", got, want)
				}
				var cause error
				if tt.send == "" {
					cause = await[mqtt.Retrying](t, d.conn.Events()).Err
				} else {
					cause = await[mqtt.Disconnected](t, d.conn.Events()).Err
				}
				p, ok := errors.AsType[*mqtt.ProtocolError](cause)
				if !ok || tt.code != 0 && p.Code != tt.code {
					t.Errorf("cause %v, want a ProtocolError with 0x%02X", cause, byte(tt.code))
				}
			})
		})
	}
}

// [MQTT-3.3.4-9]: one PUBLISH more than our Receive Maximum ends the link.
func TestMoreThanOurReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithReceiveMaximum(2), mqtt.WithSubscription("t"))
		w := d.up(server.Connack)
		w.ExpectPacket() // SUBSCRIBE
		w.Send("32 06 0001 74 0001 00")
		w.Send("34 06 0001 74 0002 00")
		w.ExpectNothing(time.Second)
		w.Send("32 06 0001 74 0003 00")
		w.Expect("E0 01 93")
		w.ExpectEOF()
	})
}

// What follows a DISCONNECT of the server is not looked at.
func TestNothingCountsAfterDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSubscription("t", mqtt.WithImmediateDelivery()))
		w := d.up(server.Connack)
		w.ExpectPacket()
		w.Send("E0 01 8B 32 06 0001 74 0001 00 C0 00")
		w.ExpectEOF()
		ev := await[mqtt.Disconnected](t, d.conn.Events())
		if e, ok := errors.AsType[*mqtt.ReasonError](ev.Err); !ok || e.Code != codec.ServerShuttingDown {
			t.Errorf("Disconnected by %v", ev.Err)
		}
		select {
		case m := <-d.conn.Subscription("t").C():
			t.Errorf("message %q delivered from behind the DISCONNECT", m.Topic)
		default:
		}
	})
}

// [MQTT-3.14.4-1] [MQTT-3.14.4-2]: nothing follows our DISCONNECT, whichever side
// publishes and whatever comes, and we close.
func TestNothingFollowsOurDisconnect(t *testing.T) {
	for _, how := range []string{"Disconnect", "Reconnect"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, mqtt.WithVersions(mqtt.V5))
				w := d.up(server.Connack)
				stop := make(chan struct{})
				for range 4 {
					go func() {
						for {
							d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
							d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"})
							select {
							case <-stop:
								return
							case <-time.After(time.Microsecond):
							}
						}
					}()
				}
				time.Sleep(time.Millisecond)
				go func() {
					if how == "Reconnect" {
						d.conn.Reconnect()
						return
					}
					ended, cancel := context.WithCancel(t.Context())
					cancel()
					d.conn.Disconnect(ended)
				}()
				rest := w.Rest()
				close(stop)
				for len(rest) > 0 && rest[0] != 0xE0 {
					_, _, size, n, err := codec.ParseHeader(rest)
					if err != nil || n == 0 {
						t.Fatalf("% X is no packet: %v", rest[:min(len(rest), 16)], err)
					}
					rest = rest[n+size:]
				}
				if string(rest) != "\xE0\x00" {
					t.Errorf("got % X where the stream should end in DISCONNECT", rest)
				}
			})
		})
	}
}

// A header announces 256 MB: no buffer of that size is made, whether we allow
// such packets or not.
func TestAnnouncedSizeTakesNoMemory(t *testing.T) {
	for _, opts := range [][]mqtt.ConnectOption{nil, {mqtt.WithMaxPacketSize(268_435_460)}} {
		for _, v := range versions {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, append(opts, mqtt.WithVersions(v))...)
				w := d.up(connack(v, false))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				w.Send("30 FF FF FF 7F 0001 74")
				synctest.Wait()
				runtime.ReadMemStats(&after)
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
					t.Errorf("MQTT %v: %d bytes allocated for an announced packet", v, grown)
				}
			})
		}
	}
}

// The error of a connection that ended says what ended it.
func TestPlainCloseIsNoProtocolError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		d.up(server.Connack).Close()
		ev := await[mqtt.Disconnected](t, d.conn.Events())
		if !errors.Is(ev.Err, io.ErrUnexpectedEOF) {
			t.Errorf("Disconnected by %v", ev.Err)
		}
		if s := ev.Err.Error(); strings.Contains(s, "protocol error") {
			t.Error(s)
		}
	})
}
