package mqtt

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/internal/chance"
)

// The heap gives what expires first, whatever enters and leaves it in between.
func TestExpiriesAreInOrder(t *testing.T) {
	rng := chance.Rand(t)
	for range 200 {
		var h expiries
		var in []*record
		for range rng.IntN(200) {
			if len(in) > 0 && rng.IntN(3) == 0 {
				i := rng.IntN(len(in))
				h.remove(in[i])
				h.remove(in[i]) // which is not there any more
				in = slices.Delete(in, i, i+1)
				continue
			}
			r := &record{exchange: exchange{expires: time.Duration(1 + rng.IntN(50))}}
			h.add(r)
			h.add(r)
			in = append(in, r)
		}
		slices.SortFunc(in, func(a, b *record) int { return int(a.expires - b.expires) })
		for _, want := range in {
			if h[0].expires != want.expires {
				t.Fatalf("%d comes first, want %d", h[0].expires, want.expires)
			}
			h.remove(h[0])
		}
		if len(h) != 0 {
			t.Fatalf("%d are left", len(h))
		}
	}
}

// However many messages expire at once, publishers get their turn at the lock in
// between, and each Future fails.
func TestAFullQueueExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestOutbound(testQueue(1))
		go o.resolve()
		var all []*Future
		for i := range 65536 {
			m := &Message{Topic: "t", QoS: QoS(1 + i%2), Properties: &Properties{Expiry: time.Duration(1+rand.IntN(3)) * time.Second}}
			all = append(all, o.publish(t.Context(), m, false))
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		for _, f := range all {
			if !errors.Is(f.Err(), ErrExpired) {
				t.Fatal(f.Err())
			}
		}
		if o.accepted != 0 || o.bytes != 0 || len(o.expiring) != 0 || o.q12.n != 0 {
			t.Errorf("left: %d messages, %d bytes, %d that expire, %d queued", o.accepted, o.bytes, len(o.expiring), o.q12.n)
		}
		o.shutdown(ErrClosed)
		<-o.ended
	})
}

// Nothing that was sent, canceled, dropped or given up stays among what expires.
func TestOnlyWhatWaitsExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testQueue(1)
		cfg.keepQoS0, cfg.messages, cfg.policy = true, 4, QueueDropOldest
		o := newTestOutbound(cfg)
		expiring := func(qos QoS) *Future {
			return o.publish(t.Context(), &Message{Topic: "t", QoS: qos, Properties: &Properties{Expiry: time.Minute}}, false)
		}
		first := expiring(1)
		expiring(0)
		expiring(1).Cancel()
		for range 4 {
			expiring(2) // the oldest give way
		}
		if len(o.expiring) != 4 {
			t.Errorf("%d wait, want 4", len(o.expiring))
		}
		l := upLink(o, 1, V5, 1)
		writeAll(o, l)
		turnAll(o)
		if len(o.expiring) != 3 || !errors.Is(first.Err(), ErrDropped) {
			t.Errorf("%d wait, want 3; the first: %v", len(o.expiring), first.Err())
		}
		o.down(&l.sender, errors.New("cut"))
		o.shutdown(ErrClosed)
		if len(o.expiring) != 0 {
			t.Errorf("%d wait at the end", len(o.expiring))
		}
	})
}

// The goroutine of the window wakes for nothing when nothing that expires waits: the
// test would take for ever otherwise.
func TestNothingLooksWhenNothingExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestOutbound(testQueue(1))
		go o.resolve()
		sent := o.publish(t.Context(), &Message{Topic: "t", QoS: 1, Properties: &Properties{Expiry: time.Hour}}, false)
		publish(o, 1, "does not expire")
		l := upLink(o, 1, V5, 1)
		writeAll(o, l)
		time.Sleep(100 * 365 * 24 * time.Hour)
		if err := sent.Err(); err != ErrPending {
			t.Error(err)
		}
		o.down(&l.sender, errors.New("cut"))
		o.shutdown(ErrClosed)
		<-o.ended
	})
}
