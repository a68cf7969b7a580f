package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
)

// bed is a server and raw clients in a bubble: what the tests send and expect is hex.
type bed struct {
	t *testing.T
	n *Network
	s *Server
}

func inBubble(t *testing.T, cfg Config, test func(b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, n: new(Network)}
		b.s = Start(b.n, cfg)
		defer b.s.Close()
		test(b)
	})
}

// dial returns a raw client: a Wire at the other end than usual.
func (b *bed) dial() *Wire {
	b.t.Helper()
	c, err := b.n.Dial(b.t.Context(), "mem", "broker")
	if err != nil {
		b.t.Fatal(err)
	}
	conn := c.(*Conn)
	b.t.Cleanup(func() { conn.Close() })
	return &Wire{Link: conn.Link(), t: b.t, conn: conn, timeout: DefaultTimeout}
}

// CONNECTs of client "a" and others: keep alive off.
func connect5(id string, cleanStart bool, props string) string {
	flags := 0
	if cleanStart {
		flags = 2
	}
	return packet(0x10, fmt.Sprintf("0004 4D515454 05 %02X 0000 %02X %s %s", flags, len(Hex(props)), props, text(id)))
}

func connect311(id string, clean bool) string {
	flags := 0
	if clean {
		flags = 2
	}
	return packet(0x10, fmt.Sprintf("0004 4D515454 04 %02X 0000 %s", flags, text(id)))
}

func text(s string) string { return fmt.Sprintf("%04X%X", len(s), s) }

func packet(first byte, body string) string {
	return fmt.Sprintf("%02X %02X %s", first, len(Hex(body)), body)
}

func (b *bed) connect(packet, connack string) *Wire {
	b.t.Helper()
	w := b.dial()
	w.Send(packet)
	w.Expect(connack)
	return w
}

func (b *bed) noViolations() {
	b.t.Helper()
	if v := b.s.Violations(); len(v) > 0 {
		b.t.Fatalf("violations: %q", v)
	}
}

func (b *bed) violation(want string) {
	b.t.Helper()
	v := b.s.Violations()
	if len(v) != 1 || !strings.Contains(v[0], want) {
		b.t.Fatalf("violations %q, want one with %q", v, want)
	}
}

const week = "11 00093A80" // Session Expiry Interval

func TestConnectEveryVersion(t *testing.T) {
	for _, tt := range []struct{ name, connect, connack string }{
		{"3.1", "10 0F 0006 4D5149736470 03 02 0000 0001 61", "20 02 00 00"},
		{"3.1.1", connect311("a", true), "20 02 00 00"},
		{"3.1.1 empty id", connect311("", true), "20 02 00 00"},
		{"3.1.1 empty id and session", connect311("", false), "20 02 00 02"},
		{"3.1 empty id", "10 0E 0006 4D5149736470 03 02 0000 0000", "20 02 00 02"},
		{"5.0", connect5("a", true, ""), "20 03 00 00 00"},
		{"5.0 assigned id", connect5("", true, ""), "20 0C 00 00 09 12 0006 6175746F2D31"},
		{"5.0 authentication", connect5("a", true, "15 0001 78"), "20 03 00 8C 00"},
		{"version 9", "10 0D 0004 4D515454 09 02 0000 0001 61", "20 02 00 01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{}, func(b *bed) {
				w := b.connect(tt.connect, tt.connack)
				if !strings.HasPrefix(tt.connack, "20 02 00 00") && !strings.Contains(tt.connack, " 00 00 ") {
					w.ExpectEOF()
				}
			})
		})
	}
}

func TestConnectRefused(t *testing.T) {
	inBubble(t, Config{Versions: []codec.Version{codec.V311}}, func(b *bed) {
		b.connect(connect5("a", true, ""), ConnackVersion3).ExpectEOF()
		b.connect(connect311("a", true), Connack3)
		b.s.Change(func(c *Config) {
			c.Versions = nil
			c.OnConnect = func(p *codec.Connect) (codec.ReasonCode, *codec.Properties) {
				if p.ClientID == "b" {
					return codec.ServerMoved, &codec.Properties{
						Present: codec.PropertySet(0).With(codec.PropServerReference), ServerReference: "c"}
				}
				return codec.Success, nil
			}
		})
		b.connect(connect5("b", true, ""), "20 07 00 9D 04 1C 0001 63").ExpectEOF()
		b.s.RefuseConnects(2, codec.NotAuthorized)
		b.connect(connect5("a", true, ""), ConnackForbidden).ExpectEOF()
		b.connect(connect311("a", true), "20 02 00 05").ExpectEOF()
		b.connect(connect5("a", true, ""), Connack)
		if st := b.s.Stats(); st.Connects != 2 || st.Refused != 4 {
			t.Fatalf("stats %+v", st)
		}
		b.noViolations()
	})
}

func TestConnackProperties(t *testing.T) {
	props := &codec.Properties{Present: codec.PropertySet(0).With(codec.PropReceiveMaximum).With(codec.PropMaximumQoS).
		With(codec.PropServerKeepAlive).With(codec.PropTopicAliasMaximum), ReceiveMaximum: 2, MaximumQoS: 1, ServerKeepAlive: 10, TopicAliasMaximum: 1}
	const connack = "20 0E 00 00 0B 13 000A 21 0002 22 0001 24 01"
	for _, tt := range []struct{ name, send, disconnect string }{
		{"receive maximum", "32 06 0001 74 0001 00 32 06 0001 74 0002 00 32 06 0001 74 0003 00", "E0 01 93"},
		{"maximum QoS", "34 06 0001 74 0001 00", "E0 01 9B"},
		{"alias", "30 07 0001 74 03 23 0002", "E0 01 94"},
		{"unknown alias", "30 06 0000 03 23 0001", "E0 01 82"},
		{"keep alive", "", "E0 01 8D"},
		{"malformed", "36 06 0001 74 0001 00", "E0 01 81"},
		{"CONNECT twice", connect5("a", true, ""), "E0 01 82"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{Connack: props}, func(b *bed) {
				b.s.Hold(codec.PUBACK)
				w := b.connect(connect5("a", true, ""), connack)
				w.timeout = 16 * time.Second
				w.Send(tt.send)
				w.Expect(tt.disconnect)
				w.ExpectEOF()
				if got := len(b.s.Violations()); got != min(len(tt.send), 1) {
					t.Fatalf("violations %q", b.s.Violations())
				}
			})
		})
	}
	inBubble(t, Config{Connack: props}, func(b *bed) {
		w := b.connect(connect5("a", true, ""), connack)
		w.Send("30 08 0001 74 03 23 0001 31  30 07 0000 03 23 0001 32")
		synctest.Wait()
		r := b.s.Received()
		if len(r) != 2 || r[1].Topic != "t" || string(r[1].Payload) != "2" || r[1].Alias != 1 {
			t.Fatalf("received %+v", r)
		}
	})
}

func TestQoSBothWays(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		sub := b.connect(connect5("s", true, ""), Connack)
		sub.Send("82 07 0009 00 0001 74 02")
		sub.Expect("90 04 0009 00 02")
		pub := b.connect(connect311("p", true), Connack3)

		pub.Send("30 04 0001 74 30")
		sub.Expect("30 05 0001 74 00 30")
		pub.Send("32 06 0001 74 0001 31")
		pub.Expect("40 02 0001")
		sub.Expect("32 07 0001 74 0001 00 31")
		sub.Send("40 02 0001")
		pub.Send("34 06 0001 74 0002 32")
		pub.Expect("50 02 0002")
		sub.Expect("34 07 0001 74 0002 00 32")
		sub.Send("50 02 0002")
		sub.Expect("62 02 0002")
		sub.Send("70 02 0002")
		pub.Send("34 06 0001 74 0003 33  62 02 0002") // order of PUBRELs is free towards new PUBLISHes
		pub.Expect("50 02 0003 70 02 0002")
		pub.Send("62 02 0099")
		pub.Expect("70 02 0099")
		synctest.Wait()
		if r := b.s.Received(); len(r) != 4 || r[3].PacketID != 3 || r[3].QoS != 2 || r[3].ClientID != "p" {
			t.Fatalf("received %+v", r)
		}
		if got := b.s.Packets("s"); len(got) == 0 || got[0].String() != "-> CONNECT 00 04 4D 51 54 54 05 02 00 00 00 00 01 73" {
			t.Fatalf("trace %v", got)
		}
		b.noViolations()
	})
}

func TestRetained(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		b.s.Publish("t/a", []byte("1"), 1, true)
		b.s.Publish("t/b", []byte("2"), 0, true)
		b.s.Publish("t/b", nil, 0, true)
		w := b.connect(connect5("a", true, ""), Connack)
		w.Send("82 09 0001 00 0003 742F23 01") // t/#
		w.Expect("90 04 0001 00 01  33 09 0003 742F61 0001 00 31")
		w.Send("40 02 0001")
		b.s.Publish("t/a", []byte("3"), 0, true)
		w.Expect("30 07 0003 742F61 00 33")
		w.Send("82 09 0002 00 0003 742F23 29") // retain as published, retain handling 2
		w.Expect("90 04 0002 00 01")
		b.s.Publish("t/a", []byte("4"), 0, true)
		w.Expect("31 07 0003 742F61 00 34")
		w.Send("82 09 0003 00 0003 742F23 11") // retain handling 1: not new
		w.Expect("90 04 0003 00 01")
		w.Send("A2 08 0004 00 0003 742F23  A2 08 0005 00 0003 742F23")
		w.Expect("B0 04 0004 00 00  B0 04 0005 00 11")
		w.ExpectNothing(time.Second)
	})
}

func TestWill(t *testing.T) {
	// will "w" on topic "t", QoS 0, with Will Delay Interval 5
	inBubble(t, Config{}, func(b *bed) {
		w := b.connect(connect5("s", true, ""), Connack)
		w.Send("82 07 0001 00 0001 74 00")
		w.Expect("90 04 0001 00 00")
		connect := packet(0x10, "0004 4D515454 05 04 0000 05 11 00000064 0001 61 05 18 00000005 0001 74 0001 77")
		b.connect(connect, Connack).Cut()
		w.ExpectNothing(4 * time.Second)
		w.ExpectPacket()
		b.connect(connect, ConnackPresent).Cut()
		w.ExpectNothing(4 * time.Second)
		again := b.connect(connect, ConnackPresent) // in time: no will
		w.ExpectNothing(time.Minute)
		again.Send(DisconnectClient)
		w.ExpectNothing(time.Minute)
		again = b.connect(connect, ConnackPresent)
		again.Send("E0 01 04") // with will
		w.ExpectNothing(4 * time.Second)
		w.Expect("30 05 0001 74 00 77")
		b.connect(connect, ConnackPresent).Cut()
		b.connect(connect5("a", true, ""), Connack) // the session ends: at once
		w.Expect("30 05 0001 74 00 77")
		b.connect("10 13 0004 4D515454 04 06 0000 0001 62 0001 74 0001 77", Connack3).Close()
		w.Expect("30 05 0001 74 00 77")
		b.noViolations()
	})
}

func TestOverlapAndIdentifiers(t *testing.T) {
	for _, copies := range []bool{false, true} {
		inBubble(t, Config{CopyPerSubscription: copies}, func(b *bed) {
			w := b.connect(connect5("a", true, ""), Connack)
			w.Send("82 09 0001 02 0B07 0001 74 00  82 0A 0002 03 0B 8001 0001 23 01")
			w.Expect("90 04 0001 00 00  90 04 0002 00 01")
			b.s.Publish("t", []byte("x"), 2, false)
			if copies {
				w.Expect("30 07 0001 74 02 0B07 78  32 0A 0001 74 0001 03 0B 8001 78")
			} else {
				w.Expect("32 0C 0001 74 0001 05 0B07 0B8001 78")
			}
			b.s.Publish("$SYS/t", []byte("x"), 0, false)
			w.ExpectNothing(time.Second)
		})
	}
}

func TestSharedAndNoLocal(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		const sub = "82 10 0001 00 000A 2473686172652F672F74 00" // $share/g/t
		w1 := b.connect(connect5("1", true, ""), Connack)
		w2 := b.connect(connect5("2", true, ""), Connack)
		for _, w := range []*Wire{w1, w2} {
			w.Send(sub)
			w.Expect("90 04 0001 00 00")
		}
		for range 2 {
			b.s.Publish("t", []byte("1"), 0, false)
			b.s.Publish("t", []byte("2"), 0, false)
			w1.Expect("30 05 0001 74 00 31")
			w2.Expect("30 05 0001 74 00 32")
		}
		w1.Close()
		synctest.Wait()
		b.s.Publish("t", []byte("3"), 0, false)
		w2.Expect("30 05 0001 74 00 33")
		w2.Send("82 07 0002 00 0001 75 04  30 05 0001 75 00 78") // no local
		w2.Expect("90 04 0002 00 00")
		w2.ExpectNothing(time.Second)
		b.noViolations()
	})
}

func TestHooksRefuse(t *testing.T) {
	inBubble(t, Config{
		OnSubscribe: func(id string, sub codec.Subscription) codec.ReasonCode {
			if sub.Filter == "no" {
				return codec.NotAuthorized
			}
			return codec.GrantedQoS0
		},
		OnUnsubscribe: func(string, string) codec.ReasonCode { return codec.NotAuthorized },
		OnPublish:     func(Received) codec.ReasonCode { return codec.QuotaExceeded },
	}, func(b *bed) {
		w := b.connect(connect5("a", true, ""), Connack)
		w.Send("82 0C 0001 00 0002 6E6F 01 0001 74 02")
		w.Expect("90 05 0001 00 87 00")
		w.Send("A2 06 0002 00 0001 74  32 06 0001 74 0003 00  34 06 0001 74 0004 00 34 06 0001 74 0004 00")
		w.Expect("B0 04 0002 00 87  40 03 0003 97  50 03 0004 97  50 03 0004 97")
		w3 := b.connect(connect311("b", true), Connack3)
		w3.Send("82 07 0001 0002 6E6F 01  32 05 0001 74 0003")
		w3.Expect("90 03 0001 80  40 02 0003")
		b.noViolations()
	})
}

func TestAckFaults(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		w := b.connect(connect311("a", false), Connack3)
		b.s.Hold(codec.PUBACK)
		w.Send("32 06 0001 74 0001 61 32 06 0001 74 0002 62 32 06 0001 74 0003 63  C0 00")
		w.Expect(Pingresp)
		if err := b.s.Wait(context.Background(), func() bool { return b.s.Held() == 3 }); err != nil {
			t.Fatal(err)
		}
		b.s.Release(func(a []Ack) []Ack { return []Ack{a[2], a[0], a[2]} })
		w.Expect("40 02 0003 40 02 0001 40 02 0003")
		w.ExpectNothing(time.Hour)
		b.s.Change(func(c *Config) {
			c.OnAck = func(a Ack) Fate {
				switch a.PacketID {
				case 4:
					return Fate{Withhold: true}
				case 5:
					return Fate{Delay: time.Minute}
				}
				return Fate{Extra: 1}
			}
		})
		w.Send("32 06 0001 74 0004 61 32 06 0001 74 0005 62 32 06 0001 74 0006 63")
		w.Expect("40 02 0006 40 02 0006")
		w.ExpectNothing(59 * time.Second)
		w.Expect("40 02 0005")
		b.noViolations()
		w.Cut()
		w = b.connect(connect311("a", false), Connack3Present+Connack3Present)
		b.s.Change(func(c *Config) { c.OnAck = nil })
		w.Send("3A 06 0001 74 0002 62 3A 06 0001 74 0004 61")
		w.Expect("40 02 0002 40 02 0004")
		b.noViolations()
		if got, all := len(b.s.Received()), len(b.s.Arrived()); got != 6 || all != 8 {
			t.Fatalf("received %d of %d", got, all)
		}
	})
}

func TestRedeliverAndDuplicate(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		w := b.connect(connect311("a", true), Connack3)
		w.Send("82 06 0001 0001 74 01")
		w.Expect("90 03 0001 01")
		b.s.Publish("t", []byte("1"), 1, false)
		w.Expect("32 06 0001 74 0001 31")
		b.s.Redeliver("a")
		w.Expect("3A 06 0001 74 0001 31")
		w.Send("40 02 0001 40 02 0001")
		b.s.Change(func(c *Config) { c.Duplicate = true })
		b.s.Publish("t", []byte("1"), 1, false)
		w.Expect("32 06 0001 74 0002 31 3A 06 0001 74 0002 31")
		synctest.Wait()
		b.noViolations()
	})
}

func TestMessageLimits(t *testing.T) {
	inBubble(t, Config{QoS0Bytes: 64 << 10}, func(b *bed) {
		w := b.connect(connect5("a", false, week+"27 00000014"), Connack) // Maximum Packet Size 20
		w.Send("82 07 0001 00 0001 74 01")
		w.Expect("90 04 0001 00 01")
		b.s.Publish("t", make([]byte, 30), 1, false)
		w.Cut()
		synctest.Wait()
		expiring := codec.Publish{Topic: "t", QoS: 1, Props: &codec.Properties{
			Present: codec.PropertySet(0).With(codec.PropMessageExpiryInterval), MessageExpiry: 10}}
		b.s.PublishMessage(expiring)
		time.Sleep(5 * time.Second)
		b.s.PublishMessage(expiring)
		time.Sleep(6 * time.Second)
		w = b.connect(connect5("a", false, week), ConnackPresent)
		w.Expect("32 0B 0001 74 ???? 05 02 00000004")
		for range 10_000 { // the client does not read: 256 KiB in the link, then the bound
			b.s.Publish("t", make([]byte, 100), 0, false)
		}
		synctest.Wait()
		st := b.s.Stats()
		if st.TooLarge != 1 || st.Expired != 1 || st.DroppedQoS0 < 5000 || st.DroppedQoS0 > 9500 {
			t.Fatalf("stats %+v", st)
		}
		if err := b.s.Publish("t/#", nil, 0, false); err == nil {
			t.Fatal("published to a filter")
		}
	})
}

// Four bytes of the wire do not fit an int of 32 bits: no size is below 0, and so none
// is taken for "any".
func TestLargestMaximumPacketSize(t *testing.T) {
	for _, size := range []string{"FFFFFFFF", "80000000"} {
		inBubble(t, Config{}, func(b *bed) {
			b.connect(connect5("a", true, "27 "+size), Connack)
			b.s.mu.Lock()
			defer b.s.mu.Unlock()
			if max := b.s.sessions["a"].client.maxPacket; max < 1<<28 {
				t.Errorf("maximum packet size %d", max)
			}
		})
	}
}
