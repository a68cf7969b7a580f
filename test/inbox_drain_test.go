package mqtt_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// Drain hands out what waits in the store as well, and ends when that is
// acknowledged: by the application, or for it.
func TestDrainHandsOutTheInbox(t *testing.T) {
	forms := map[string][]mqtt.SubscribeOption{
		"manual":    {mqtt.WithManualAck(), mqtt.WithBuffer(0)},
		"automatic": {mqtt.WithBuffer(0)},
		"buffered":  {mqtt.WithBuffer(16)},
	}
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		for name, opts := range forms {
			d := leaveInbox(t, v, 10)
			s := d.inbox(t, v, true)
			sub := s.subscribed("t", 2, append(opts, mqtt.WithPendingLimit(2, 0))...)
			messages := sub.C()
			all := make(chan int, 1)
			go func() {
				got := 0
				for m := range messages {
					got++
					time.Sleep(time.Second)
					if name == "manual" {
						m.Ack()
					}
				}
				all <- got
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			if err := s.conn.Drain(ctx); err != nil || ctx.Err() != nil {
				t.Errorf("%s: %v, %v", name, err, ctx.Err())
			}
			cancel()
			if got := <-all; got != 10 {
				t.Errorf("%s: %d handed out", name, got)
			}
			checkEmpty(t, d)
		}
	})
}

// Drain waits, and does nothing else, while a slow consumer has too much for the next large
// message and too little to be refilled.
func TestDrainWaitsForRoomForALargeMessage(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		const limit = 4096
		d := newDisk()
		s := d.inbox(t, v, false)
		s.subscribed("t", 2, mqtt.WithManualAck())
		large := strings.Repeat("x", limit-100)
		for i, payload := range []string{"a", "b", large, "c", large, "d"} {
			s.message(0x32, uint16(i+1), "t", payload)
		}
		s.crash()

		s = d.inbox(t, v, true)
		messages := s.subscribed("t", 2, mqtt.WithBuffer(0), mqtt.WithPendingLimit(100, limit)).C()
		all := make(chan int, 1)
		go func() {
			got := 0
			for range messages {
				got++
				time.Sleep(time.Second)
			}
			all <- got
		}()
		if err := s.conn.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if got := <-all; got != 6 {
			t.Errorf("%d handed out", got)
		}
		checkEmpty(t, d)
	})
}

// Drain leaves what it did not get to in its time, and what no subscription takes, in the store.
func TestDrainCutShortLeavesTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		messages := s.subscribed("t", 2, mqtt.WithPendingLimit(2, 0), mqtt.WithManualAck(), mqtt.WithBuffer(0)).C()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.conn.Drain(ctx)
		}()
		for range 3 {
			m := <-messages
			m.Ack()
		}
		<-ended
		if left := d.kinds(t); left[store.Inbox] != 7 {
			t.Errorf("left in the store: %v", left)
		}
		leave := d.inbox(t, v, true) // has no subscription
		if err := leave.conn.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		if left := d.kinds(t); left[store.Inbox] != 7 {
			t.Errorf("left in the store by a Conn without subscriptions: %v", left)
		}
	})
}

// A Drain that waits for what a failing store then does not take in ends.
func TestDrainEndsWhenTheInboxStoreFails(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		s.subscribed("t", 2).C()
		s.p.mu.Lock()
		s.p.fail = func(ops []store.Op) error {
			if slices.ContainsFunc(ops, func(op store.Op) bool { return op.Key.Kind == store.Inbox && !op.Delete }) {
				return store.ErrFull
			}
			return nil
		}
		s.p.mu.Unlock()
		s.hold()
		s.message(0x32, 1, "t", "a")
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.conn.Drain(t.Context())
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("ended before the store had answered")
		default:
		}
		s.open()
		<-ended
		checkEmpty(t, d)
	})
}
