package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
)

func TestSessionResume(t *testing.T) {
	inBubble(t, Config{Inflight: 2}, func(b *bed) {
		w := b.connect(connect5("a", false, week), Connack)
		w.Send("82 07 0001 00 0001 74 02")
		w.Expect("90 04 0001 00 02")
		w.Cut()
		synctest.Wait()
		for i := range 4 {
			b.s.Publish("t", []byte{byte('0' + i)}, byte(1+i%2), false)
		}
		b.s.Publish("t", []byte("gone"), 0, false)
		w = b.connect(connect5("a", false, week), ConnackPresent)
		w.Expect("32 07 0001 74 0001 00 30  34 07 0001 74 0002 00 31")
		w.Send("50 02 0002")
		w.Expect("62 02 0002")
		w.ExpectNothing(time.Hour)
		w.Cut()
		w = b.connect(connect5("a", false, week), ConnackPresent)
		w.Expect("3A 07 0001 74 0001 00 30  62 02 0002  32 07 0001 74 0003 00 32")
		w.Send("40 02 0001")
		w.Expect("34 07 0001 74 0004 00 33")
		w.Send("70 02 0002")
		w.ExpectNothing(time.Hour)
		if info, ok := b.s.Session("a"); !ok || info.Open != 2 || info.Queued != 0 || info.Links != 3 || len(info.Subscriptions) != 1 {
			t.Fatalf("session %+v", info)
		}
		b.noViolations()
		b.s.DropSession("a")
		b.connect(connect5("a", false, week), Connack)
	})
}

// closed closes a raw client and lets the server see it.
func closed(w *Wire) {
	w.Close()
	synctest.Wait()
}

func TestSessionExpiry(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		w := b.connect(connect5("a", false, "11 0000000A"), Connack)
		w.Send(DisconnectClient)
		time.Sleep(9 * time.Second)
		w = b.connect(connect5("a", false, "11 0000000A"), ConnackPresent)
		w.Cut()
		synctest.Wait()
		time.Sleep(11 * time.Second)
		w = b.connect(connect5("a", false, "11 0000000A"), Connack)
		w.Send("E0 07 00 05 11 00000000") // ends with the connection after all
		closed(w)
		closed(b.connect(connect5("a", false, ""), Connack))
		closed(b.connect(connect311("a", false), Connack3))
		time.Sleep(1000 * time.Hour)
		closed(b.connect(connect311("a", false), Connack3Present))
		closed(b.connect(connect311("a", true), Connack3))
		closed(b.connect("10 0F 0006 4D5149736470 03 00 0000 0001 61", Connack3))
		closed(b.connect("10 0F 0006 4D5149736470 03 00 0000 0001 61", Connack3)) // 3.1 has no flag
		b.noViolations()
	})
}

func TestTakeover(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		old := b.connect(connect5("a", false, week), Connack)
		now := b.connect(connect5("a", false, week), ConnackPresent)
		old.Expect(DisconnectTaken)
		old.ExpectEOF()
		now.Send(Pingreq)
		now.Expect(Pingresp)
		if c := b.s.Connected(); len(c) != 1 || c[0] != "a" {
			t.Fatalf("connected %q", c)
		}
		if !b.s.Disconnect("a", codec.ServerShuttingDown) || b.s.Disconnect("x", 0) {
			t.Fatal("Disconnect")
		}
		now.Expect("E0 01 8B")
		now.ExpectEOF()
	})
}

func TestRestart(t *testing.T) {
	inBubble(t, Config{}, func(b *bed) {
		b.connect(connect311("a", false), Connack3)
		b.s.Restart(true)
		w := b.connect(connect311("a", false), Connack3Present)
		if b.s.LinkOf("a") != w.Link || b.s.LinkOf("b") != nil {
			t.Fatal("LinkOf")
		}
		b.s.Restart(false)
		b.connect(connect311("a", false), Connack3)
		b.noViolations()
	})
}
