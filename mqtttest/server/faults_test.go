package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
)

// A cut after packet n, and a packet that vanishes.
func TestCutAfterPacket(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		seen := 0
		b.s.Change(func(c *Config) {
			c.OnPacket = func(id string, p Packet) bool {
				if seen++; seen == 3 {
					b.s.Cut(id)
				}
				return seen >= 2 && p.Type == codec.PUBLISH
			}
		})
		w := b.connect(connect311("a", false), Connack3)
		w.Send("32 06 0001 74 0001 61 32 06 0001 74 0002 62 32 06 0001 74 0003 63")
		synctest.Wait()
		if r := b.s.Received(); len(r) != 1 || r[0].PacketID != 1 {
			t.Fatalf("received %+v", r)
		}
		if seen != 3 || len(b.s.Connected()) != 0 {
			t.Fatalf("seen %d, connected %q", seen, b.s.Connected())
		}
	})
}

// What an older connection still has to be read does not count once the session is another's.
func TestLatePacketsOfOldConnection(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		block := make(chan struct{})
		old := b.connect(connect311("a", false), Connack3)
		b.s.Change(func(c *Config) {
			c.OnPacket = func(_ string, p Packet) bool {
				if p.Link == 1 {
					<-block
				}
				return false
			}
		})
		old.Send("32 06 0001 74 0001 61 62 02 0001 50 02 0001 40 02 0001 82 06 0002 0001 74 00 A2 05 0002 0001 74")
		synctest.Wait()
		now := b.connect(connect311("a", false), Connack3Present)
		close(block)
		synctest.Wait()
		now.Send("32 06 0001 74 0001 62")
		now.Expect("40 02 0001")
		if r := b.s.Received(); len(r) != 1 || r[0].Link != 2 {
			t.Fatalf("received %+v", r)
		}
		b.noViolations()
	})
}

func TestWithheldConnack(t *testing.T) {
	inBubble(t, Config{OnAck: func(a Ack) Fate { return Fate{Delay: 5 * time.Second} }}, func(b *bed) {
		w := b.dial()
		w.Send(connect311("a", true) + Pingreq)
		w.ExpectNothing(4 * time.Second)
		b.s.Publish("t", nil, 0, false)
		w.Expect(Connack3 + Pingresp)
	})
}

func TestLogBytes(t *testing.T) {
	inBubble(t, Config{LogBytes: 1000}, func(b *bed) {
		w := b.connect(connect311("a", true), Connack3)
		for range 5 {
			w.SendBytes(append(Hex("30 83 04 0001 74"), make([]byte, 512)...))
		}
		synctest.Wait()
		if r := b.s.Arrived(); len(r) != 1 {
			t.Fatalf("kept %d", len(r))
		}
	})
}

// TLS on the in-memory connection: faults reach it, and a Close that its peer never reads does not
// hold up the server.
func TestTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Network{BufferSize: 4 << 10}
		ln := mustListen(n)
		s := New(Config{})
		served := make(chan error, 1)
		go func() {
			served <- s.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}}))
		}()
		raw, err := n.Dial(t.Context(), "tcp", "localhost:8883")
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		defer raw.Close()
		if _, err := c.Write(Hex(connect311("a", true) + "82 06 0001 0001 74 00")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 9)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "\x20\x02\x00\x00\x90\x03\x00\x01\x00" {
			t.Fatalf("% X, %v", got, err)
		}
		if l := s.LinkOf("a"); l != n.Last() {
			t.Fatal("LinkOf")
		}
		n.Last().Stall(ToClient)
		s.Publish("t", make([]byte, 100_000), 0, false)
		synctest.Wait()
		s.Close()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	})
}

func testCertificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// FuzzServer: no bytes of a client make the server panic, hang or leak.
func FuzzServer(f *testing.F) {
	f.Add(Hex(connect5("a", true, "") + "82 07 0001 00 0001 74 02 34 07 0001 74 0001 00 61 62 02 0001 E0 00"))
	f.Add(Hex(connect311("a", false) + "82 06 0001 0001 23 01 32 06 0001 74 0001 61 40 02 0001 A2 05 0002 0001 23 C0 00"))
	f.Add(Hex("10 0F 0006 4D5149736470 03 02 0000 0001 61 32 06 0001 74 0001 61 3A 06 0001 74 0001 61"))
	f.Add(Hex(connect5("a", true, "") + "82 10 0001 00 000A 2473686172652F672F74 02 35 07 0001 74 0001 00 61"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New(Config{Duplicate: true})
		defer s.Close()
		client, far := Pipe(max(len(b), 1))
		client.Link().Drop(ToClient)
		s.accept(far)
		client.Write(b)
		client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Wait(ctx, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.clients) == 0
		}); err != nil {
			t.Fatal("the connection has not ended")
		}
	})
}
