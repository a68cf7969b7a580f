package server

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
)

// The server takes any listener; Close leaves nothing behind, with clients in every state.
func TestServeTCPAndClose(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(Hex(connect5("a", true, "")))
	mustRead(t, c, "\x20\x03\x00\x00\x00")
	c.Write(Hex("82 07 0001 00 0001 74 00  30 05 0001 74 00 78"))
	mustRead(t, c, "\x90\x04\x00\x01\x00\x00\x30\x05\x00\x01t\x00x")
	s.Cut("a")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Wait(ctx, func() bool { return len(s.Connected()) == 0 }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Fatalf("Serve after Close: %v", err)
	}
}

// A client that does not read holds up no other, and Close ends it with timers and held acks.
func TestSlowClientBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{BufferSize: 1 << 10}
		s := Start(n, Config{OnAck: func(a Ack) Fate {
			if a.Type == codec.PUBACK {
				return Fate{Delay: time.Hour}
			}
			return Fate{}
		}})
		b := &bed{t: t, n: n, s: s}
		slow := b.connect(connect5("slow", true, ""), Connack)
		slow.Send("82 07 0001 00 0001 74 01")
		slow.Expect("90 04 0001 00 01")
		quick := b.connect(connect5("quick", true, ""), Connack)
		quick.Send("82 07 0001 00 0001 75 01")
		quick.Expect("90 04 0001 00 01")
		for range 1000 {
			s.Publish("t", make([]byte, 1000), 1, false)
		}
		s.Publish("u", nil, 0, false)
		quick.Expect("30 04 0001 75 00")
		quick.Send("32 06 0001 78 0001 00")
		synctest.Wait()
		start := time.Now()
		s.Close()
		if d := time.Since(start); d != 0 {
			t.Fatalf("Close took %v", d)
		}
	})
}

func TestWriteTimeout(t *testing.T) {
	inBubble(t, Config{WriteTimeout: time.Minute}, func(b *bed) {
		w := b.connect(connect5("a", true, ""), Connack)
		w.Send("82 07 0001 00 0001 74 00")
		w.Expect("90 04 0001 00 00")
		w.Stall(ToClient)
		for range 30 {
			b.s.Publish("t", make([]byte, 10_000), 0, false)
		}
		time.Sleep(61 * time.Second)
		if c := b.s.Connected(); len(c) != 0 {
			t.Fatalf("connected %q", c)
		}
	})
}

// Many clients at once under the race detector: every message arrives once, in order.
func TestConcurrentClients(t *testing.T) {
	const clients, messages = 8, 200
	var n Network
	s := Start(&n, Config{})
	defer s.Close()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c, err := n.Dial(t.Context(), "mem", "broker")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			id := fmt.Sprintf("c%d", i)
			c.Write(Hex(connect311(id, true)))
			for m := range messages {
				c.Write(Hex(fmt.Sprintf("32 06 0001 74 %04X %02X", m+1, m)))
			}
			want := "\x20\x02\x00\x00"
			for m := range messages {
				want += string([]byte{0x40, 2, byte((m + 1) >> 8), byte(m + 1)})
			}
			got := make([]byte, len(want))
			for at := 0; at < len(got); {
				k, err := c.Read(got[at:])
				if err != nil {
					t.Error(err)
					return
				}
				at += k
			}
			if string(got) != want {
				t.Errorf("%s: acks out of order", id)
			}
		})
	}
	wg.Wait()
	if got := len(s.Received()); got != clients*messages {
		t.Fatalf("received %d", got)
	}
	if v := s.Violations(); len(v) > 0 {
		t.Fatal(strings.Join(v, "\n"))
	}
}

func TestLogsAreBounded(t *testing.T) {
	inBubble(t, Config{LogEntries: 10}, func(b *bed) {
		w := b.connect(connect311("a", true), Connack3)
		for range 100 {
			w.Send("30 04 0001 74 30" + Pingreq)
			w.Expect(Pingresp)
		}
		if r, p := len(b.s.Arrived()), len(b.s.Packets("a")); r < 10 || r > 20 || p < 10 || p > 20 {
			t.Fatalf("%d received, %d packets", r, p)
		}
	})
}
