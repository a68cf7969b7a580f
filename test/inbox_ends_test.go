package mqtt_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// What becomes of messages in the durable inbox when tnext subscription, or the
// Conn, ends.

// The record stays until every subscription that got the message is done with it, also
// across the subscriptions that take over, and is dropped with the last.
func TestInboxKeepsTheRecordUntilEverySubscriptionIsDone(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		ctx, cancel := context.WithCancel(t.Context())
		one := s.subscribed("t", 2, mqtt.WithManualAck())
		if _, err := s.conn.Subscribe(ctx, "+", mqtt.WithManualAck(), mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 2, 1)
		s.message(0x32, 1, "t", "a")
		s.ExpectBytes(rawAck(0x40, 1))
		m := took(t, one, "a", 0, false)
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		cancel() // detached, unread
		synctest.Wait()
		next := subscribeAgain(s, "+", 3)
		took(t, next, "a", m.InboxKey(), false)
		s.crash()
		if left := d.kinds(t); left[store.Inbox] != 1 {
			t.Errorf("left in the store: %v", left)
		}
		s = d.inbox(t, v, true)
		next = s.subscribed("+", 1, mqtt.WithManualAck())
		if err := took(t, next, "a", m.InboxKey(), true).Ack(); err != nil {
			t.Error(err)
		}
		time.Sleep(11 * time.Second) // until then the other filter may come back for it
		s.closeEmpty(d)
	})
}

// subscribeAgain subscribes to a filter by the SUBSCRIBE with that identifier.
func subscribeAgain(s *storedScript, filter string, id uint16) *mqtt.Subscription {
	s.t.Helper()
	sub, err := s.conn.Subscribe(s.t.Context(), filter, mqtt.WithManualAck(), mqtt.WithoutWaiting())
	if err != nil {
		s.t.Fatal(err)
	}
	s.ExpectPacket()
	s.suback(0x90, id, 1)
	return sub
}

// What waits in the store for a detached subscription comes before what is newer
// to the one that takes over.
func TestInboxIsTakenOverInOrder(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		ctx, cancel := context.WithCancel(t.Context())
		few := mqtt.WithPendingLimit(2, 0)
		if _, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting(), few, mqtt.QoS(2)); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 1, 2)
		cancel()
		synctest.Wait()
		s.message(0x32, 31, "t", "k")
		s.ExpectBytes(rawAck(0x40, 31))
		next := s.subscribed("t", 2, few, mqtt.WithBuffer(0))
		s.message(0x32, 32, "t", "l")
		for i := range 12 {
			took(t, next, string('a'+rune(i)), 0, i < 10)
		}
	})
}

// The slow policies hold: what does not fit waits in the store, the reader with it,
// and a subscription that ends gives up what it has not handed over.
func TestEndOfASubscriptionGivesUpItsInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(2, 0))
		if st := sub.Stats(); st.Pending != 2 || s.conn.Stats().Held != 8 {
			t.Errorf("%d pending, %d held", st.Pending, s.conn.Stats().Held)
		}
		go sub.Unsubscribe(t.Context())
		s.ExpectPacket()
		synctest.Wait()
		if n := sub.Stats().Dropped; n != 10 || s.conn.Stats().Held > 0 {
			t.Errorf("%d dropped, %d held", n, s.conn.Stats().Held)
		}
		s.closeEmpty(d)
	})
}

// What a detached subscription left is kept when the grace is over and the filter
// unsubscribed: it comes to the next one, in order.
func TestInboxOfADetachedSubscriptionComesToTheNext(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true, mqtt.WithBacklogGrace(5*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting(), mqtt.WithPendingLimit(2, 0), mqtt.QoS(2)); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 1, 2)
		cancel()
		synctest.Wait()
		s.message(0x32, 31, "t", "k")
		s.ExpectBytes(rawAck(0x40, 31))
		if p := s.ExpectPacket(); p[0] != 0xA2 {
			t.Errorf("got % X, want UNSUBSCRIBE", p)
		}
		time.Sleep(time.Hour)
		if n := s.conn.Stats().Held; n != 11 || len(told[mqtt.MessageDropped](s.conn)) > 0 {
			t.Errorf("%d held, want 11", n)
		}
		sub := s.subscribed("t", 2)
		for i := range 11 {
			took(t, sub, string('a'+rune(i)), 0, i < 10)
		}
		s.closeEmpty(d)
	})
}

// Unsubscribing a filter gives up what the inbox has for it, whichever subscription left it, and tells.
func TestUnsubscribeGivesUpTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		go s.conn.Unsubscribe(t.Context(), "t", "u")
		s.ExpectPacket()
		synctest.Wait()
		if evs := told[mqtt.MessageDropped](s.conn); len(evs) != 1 || evs[0].Topic != "t" || evs[0].Total != 10 {
			t.Errorf("%+v", evs)
		}
		if n := s.conn.Stats().Held; n > 0 {
			t.Errorf("%d held", n)
		}
		idle(t, s.subscribed("t", 2).C())
		s.closeEmpty(d)
	})
}

// What waits in the store at the end of the Conn is not dropped.
func TestInboxIsKeptAtTheEndOfTheConn(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(2, 0))
		s.conn.Close()
		if st := sub.Stats(); st.Dropped > 0 {
			t.Errorf("%d dropped", st.Dropped)
		}
		if left := d.kinds(t); left[store.Inbox] != 10 {
			t.Errorf("left in the store: %v", left)
		}
	})
}

// unreachable is a network that no dial gets through.
func unreachable() *server.Network {
	n := &server.Network{}
	n.RefuseDials(1_000_000, nil)
	return n
}

// checkInbox checks how many messages are on d.
func checkInbox(t *testing.T, d *disk, want int) {
	t.Helper()
	if left := d.kinds(t); left[store.Inbox] != want {
		t.Errorf("left in the store: %v, want %d messages", left, want)
	}
}

// A Connect that fails hands out nothing: the application cannot read what it would have put
// into a channel.
func TestFailedConnectHandsOutNoInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		p := d.process(unreachable())
		_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(p.dial),
			mqtt.WithSession(time.Hour), mqtt.WithStore(p), mqtt.WithInbox(),
			mqtt.WithSubscription("t", mqtt.QoS(2), mqtt.WithImmediateDelivery()), mqtt.WithCatchAll(mqtt.WithImmediateDelivery()))
		if err == nil {
			t.Fatal("connected")
		}
		checkInbox(t, d, 3)
	})
}

// A Subscribe that fails takes nothing with it: what it had claimed comes to the next.
func TestFailedSubscribeLeavesTheInboxToTheNext(t *testing.T) {
	t.Run("its context ends", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			conn := d.process(unreachable()).connect(t, v, mqtt.WithInbox())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := conn.Subscribe(ctx, "t", mqtt.WithImmediateDelivery()); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			sub, err := conn.Subscribe(t.Context(), "t", mqtt.WithoutWaiting(), mqtt.WithImmediateDelivery())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, sub.C(), "a", "b", "c")
		})
	})
	t.Run("it is refused", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			s := d.inbox(t, v, true)
			refused := make(chan error, 1)
			go func() {
				_, err := s.conn.Subscribe(t.Context(), "t", mqtt.WithImmediateDelivery())
				refused <- err
			}()
			s.ExpectPacket()
			s.suback(0x90, 1, 0x80)
			if _, ok := errors.AsType[*mqtt.SubscribeError](<-refused); !ok {
				t.Error("granted")
			}
			expect(t, s.subscribed("t", 2).C(), "a", "b", "c")
		})
	})
	t.Run("it is refused when asked for again", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			s := d.inbox(t, v, true)
			sub := s.subscribed("t", 2, mqtt.WithPendingLimit(2, 0))
			s.recut(connack(v, false))
			s.ExpectPacket()
			s.suback(0x90, 2, 0x80)
			<-sub.Done()
			expect(t, s.subscribed("t", 2).C(), "a", "b", "c")
		})
	})
}

// An evicted subscription leaves to the next one what it did not take.
func TestEvictedSubscriptionLeavesItsInboxToTheNext(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(2, 0), mqtt.WithBuffer(0))
		messages := sub.C()
		for i := range 4 {
			s.message(0x32, uint16(i+1), "t", string('a'+rune(i)))
		}
		<-sub.Done() // after 30 s
		if err := sub.Err(); err != mqtt.ErrSlowConsumer {
			t.Error(err)
		}
		drainClosed(t, messages)
		expect(t, s.subscribedBehind("t", 2).C(), "a", "b", "c", "d")
		s.conn.Close()
		checkInbox(t, d, 0)
	})
}

// A message in flight to a subscription that is detached comes to the one that
// takes its place, however long the commit takes.
func TestMessageInACommitComesToTheSubscriptionThatTakesOver(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false, mqtt.WithBacklogGrace(time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting(), mqtt.QoS(2)); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 1, 2)
		s.hold()
		s.message(0x34, 1, "t", "a")
		cancel()
		synctest.Wait()
		s.message(0x34, 2, "t", "b") // for no subscription at present
		next := s.subscribed("t", 2)
		s.message(0x34, 3, "t", "c")
		time.Sleep(11 * time.Second)
		s.open()
		expect(t, next.C(), "a", "b", "c")
	})
}

// What the application has in hand when its subscription ends stays its own until
// it acknowledges it; a process that dies before leaves it to the next one.
func TestMessageInHandAtTheEndStaysTheApplications(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting(), mqtt.QoS(2), mqtt.WithManualAck())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 1, 2)
		s.message(0x34, 1, "t", "a")
		s.message(0x34, 2, "t", "b")
		a, b := took(t, sub, "a", 0, false), took(t, sub, "b", 0, false)
		cancel()
		time.Sleep(time.Hour)
		idle(t, s.subscribedBehind("t", 2).C())
		if err := b.Ack(); err != nil {
			t.Error(err)
		}
		s.conn.Close()
		if err := a.Ack(); !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("Ack after the end of the Conn: %v", err)
		}
		s = d.inbox(t, v, true)
		sub = s.subscribed("t", 2)
		took(t, sub, "a", a.InboxKey(), true)
		idle(t, sub.C())
	})
}

// A detached subscription whose filter another one has leaves what it did not hand
// over to the next one of the filter, not to the other, which has newer ones.
func TestInboxOfADetachedSubscriptionDoesNotComeToAnother(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		s := d.inbox(t, v, true)
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting(), mqtt.QoS(2)); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		s.suback(0x90, 1, 2)
		other := s.subscribed("t", 2)
		s.message(0x32, 1, "t", "d")
		expect(t, other.C(), "d")
		cancel()
		idle(t, other.C())
		expect(t, s.subscribedBehind("t", 2).C(), "a", "b", "c", "d")
		idle(t, other.C())
	})
}

// What several filters of an earlier process brought comes to each of them, in
// whatever order they are subscribed.
func TestInboxComesToEachFilterInAnyOrder(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		s.subscribed("a/b", 1, mqtt.WithManualAck())
		s.subscribed("a/+", 1, mqtt.WithManualAck())
		s.message(0x32, 1, "a/b", "x")
		s.crash()
		s = d.inbox(t, v, true)
		took(t, s.subscribed("a/+", 1), "x", 0, true)
		time.Sleep(time.Second)
		took(t, s.subscribed("a/b", 1), "x", 0, true)
		s.closeEmpty(d)
	})
}

// What a commit brings after the subscriptions have ended with the Conn is kept, and
// not counted as dropped.
func TestInboxCommittedAfterTheEndIsKept(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		sub := s.subscribed("t", 2)
		s.hold()
		s.message(0x32, 1, "t", "a")
		go s.conn.Close()
		time.Sleep(8 * time.Second) // the subscriptions have ended, the commit is in progress
		s.open()
		<-s.conn.Done()
		if n := sub.Stats().Dropped; n > 0 {
			t.Errorf("%d dropped", n)
		}
		checkInbox(t, d, 1)
	})
}
