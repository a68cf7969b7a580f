package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recordT catches the failure of a script.
type recordT struct{ failed string }

func (r *recordT) Helper()        {}
func (r *recordT) Cleanup(func()) {}
func (r *recordT) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}

// failure runs step and returns the text it failed with.
func failure(step func(TB)) (text string) {
	r := &recordT{}
	defer func() {
		if p := recover(); p != nil && p != any(r) {
			panic(p)
		}
		text = r.failed
	}()
	step(r)
	return ""
}

func TestWireSuccessiveLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		peer := NewPeer(t, &n)
		for range 3 {
			c, err := n.Dial(t.Context(), "tcp", "localhost:1883")
			if err != nil {
				t.Fatal(err)
			}
			w := peer.Accept(t.Context())
			c.Write(Hex("10 0C 0004 4D515454 04 02 003C 0000"))
			if connect := w.Handshake(Connack3); len(connect) != 14 {
				t.Fatalf("CONNECT % X", connect)
			}
			mustRead(t, c, "\x20\x02\x00\x00")
			c.Write(Hex("32 06 0001 74 0007 78 C0"))
			w.Expect("32 06 0001 74 ???? 78")
			c.Write(Hex("00"))
			w.Expect(Pingreq)
			w.Send(Pingresp)
			w.ExpectNothing(time.Hour)
			c.Close()
			w.ExpectEOF()
		}
		peer.ExpectNoDial(time.Hour)
	})
}

func TestWireFailuresSayBothSides(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *Wire)
		want []string
	}{
		{"differs", func(w *Wire) { w.Expect("32 06 0001 74 0008 78") },
			[]string{"byte 6 differs", "want 32 06 00 01 74 00 08 78", "got  32 06 00 01 74 00 07 78", "PUBLISH QoS 1, 8 bytes"}},
		{"timeout", func(w *Wire) { w.Expect("3206000174000778 C000") }, []string{"timeout after 10s", "want", "PINGREQ"}},
		{"nothing", func(w *Wire) { w.ExpectNothing(time.Second) }, []string{"want nothing for 1s", "PUBLISH QoS 1"}},
		{"eof", func(w *Wire) { w.ExpectEOF() }, []string{"want the end", "PUBLISH QoS 1"}},
		{"handshake", func(w *Wire) { w.Handshake(Connack) }, []string{"want CONNECT", "PUBLISH QoS 1"}},
		{"cut", func(w *Wire) { w.ExpectPacket(); w.Cut(); w.ExpectPacket() }, []string{"the connection was cut"}},
		{"full", func(w *Wire) { w.Stall(ToClient); w.SendBytes(make([]byte, 300<<10)) }, []string{"sent 262144 of 307200", "timeout"}},
		{"no dial", func(w *Wire) { (&Peer{t: w.t, ln: mustListen(&Network{})}).Accept(context.Background()) }, []string{"no connection within 10s"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := Pipe(0)
				client.Write(Hex("3206000174000778"))
				got := failure(func(r TB) {
					tt.do(&Wire{Link: server.Link(), t: r, conn: server, timeout: DefaultTimeout})
				})
				for _, want := range tt.want {
					if !strings.Contains(got, want) {
						t.Errorf("failure text lacks %q:\n%s", want, got)
					}
				}
			})
		})
	}
}

func mustListen(n *Network) *Listener {
	ln, err := n.Listen("")
	if err != nil {
		panic(err)
	}
	return ln
}

func TestWireRest(t *testing.T) {
	client, server := Pipe(0)
	client.Write(Hex(DisconnectClient))
	client.Close()
	w := &Wire{Link: server.Link(), t: t, conn: server, timeout: DefaultTimeout}
	if got := w.Rest(); string(got) != "\xE0\x00" {
		t.Fatalf("Rest = % X", got)
	}
}
