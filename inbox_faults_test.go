package mqtt_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// leaveInbox is a process that dies with the messages a, b and so on in its inbox.
func leaveInbox(t *testing.T, v mqtt.Version, n int) *disk {
	t.Helper()
	d := newDisk()
	s := d.inbox(t, v, false)
	s.subscribed("t", 2, mqtt.WithManualAck())
	for i := range n {
		s.message(0x32, uint16(i+1), "t", string('a'+rune(i)))
	}
	s.crash()
	return d
}

// What an earlier process left is there at once for a subscription that was
// declared, though nothing happens on the link, or there is none.
func TestInbox_Declared(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 1)
		began := time.Now()
		conn := d.process(&server.Network{}).connect(t, v, mqtt.WithInbox(), mqtt.WithSubscription("t", mqtt.QoS(2)))
		took(t, conn.Subscription("t"), "a", 0, true)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it came after %v", waited)
		}
	})
}

// B22: a store that cannot be read for a while delays what is in the inbox, and
// what is newer with it.
func TestInbox_ReadFailsForAWhile(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{d.mem, 3, syscall.EIO}))
		sub := s.subscribed("t", 2)
		s.message(0x32, 9, "t", "d")
		s.ExpectBytes(rawAck(0x40, 9))
		for i := range 4 {
			took(t, sub, string('a'+rune(i)), 0, i < 3)
		}
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) != 1 || !errors.Is(evs[0].Err, syscall.EIO) || evs[0].Final {
			t.Errorf("%+v", evs)
		}
		s.conn.Close()
		checkEmpty(t, d)
	})
}

// B22: a damaged record costs its own message alone, and is told.
func TestInbox_Damage(t *testing.T) {
	t.Run("found when it is read", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			s := d.inbox(t, v, true, mqtt.WithStore(&faulty{d.mem, 1, &store.DamageError{Problem: "checksum"}}))
			sub := s.subscribed("t", 2)
			expect(t, sub.C(), "b", "c")
			if evs := told[mqtt.StoreDamaged](s.conn); len(evs) != 1 || evs[0].Left {
				t.Errorf("%+v", evs)
			}
			s.conn.Close()
			checkEmpty(t, d)
		})
	})
	t.Run("found at Connect", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			key, value := d.value(t, store.Inbox, 1)
			d.put(t, store.Inbox, key.Seq, value[:len(value)/2])
			s := d.inbox(t, v, true)
			if evs := told[mqtt.StoreDamaged](s.conn); len(evs) != 1 || evs[0].Left {
				t.Errorf("%+v", evs)
			}
			expect(t, s.subscribed("t", 2).C(), "a", "c")
			s.conn.Close()
			checkEmpty(t, d)
		})
	})
	t.Run("of a later version", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			key, value := d.value(t, store.Inbox, 1)
			value[0]++
			d.put(t, store.Inbox, key.Seq, value)
			s := d.inbox(t, v, true)
			if evs := told[mqtt.StoreDamaged](s.conn); len(evs) != 1 || !evs[0].Left {
				t.Errorf("%+v", evs)
			}
			expect(t, s.subscribed("t", 2).C(), "a", "c")
			s.conn.Close()
			if left := d.kinds(t); left[store.Inbox] != 1 {
				t.Errorf("left in the store: %v", left)
			}
		})
	})
}

// What a message consists of survives the process.
func TestInbox_WholeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := d.inbox(t, mqtt.V5, false)
		sub := s.subscribed("#", 2, mqtt.WithManualAck())
		// Payload Format, Content Type, Response Topic, Correlation Data, a user property; DUP and RETAIN.
		s.Send("3D 26 0003 612F62 0007 1B 0101 03 0001 63 08 0001 72 09 0002 FF00 26 0001 6B 0001 76 02 0000000A 70 6C 64")
		before := took(t, sub, "pld", 0, false)
		s.crash()
		s = d.inbox(t, mqtt.V5, true)
		after := took(t, s.subscribed("#", 2), "pld", before.InboxKey(), true)
		if !reflect.DeepEqual(before.Properties, after.Properties) || after.Properties == nil || len(after.Properties.User) != 1 {
			t.Errorf("properties %+v, before %+v", after.Properties, before.Properties)
		}
		if after.Topic != "a/b" || after.QoS != 2 || !after.Retained() || !after.Dup() {
			t.Errorf("%+v, retained %t, DUP %t", after, after.Retained(), after.Dup())
		}
	})
}

// The record stays until everybody who got the message is done with it, also
// across the subscriptions that take over, and is dropped with the last.
func TestInbox_SeveralOwners(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.inbox(t, v, false)
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
		heir := subscribeAgain(s, "+", 3)
		took(t, heir, "a", m.InboxKey(), false)
		s.crash()
		if left := d.kinds(t); left[store.Inbox] != 1 {
			t.Errorf("left in the store: %v", left)
		}
		s = d.inbox(t, v, true)
		heir = s.subscribed("+", 1, mqtt.WithManualAck())
		if err := took(t, heir, "a", m.InboxKey(), true).Ack(); err != nil {
			t.Error(err)
		}
		s.conn.Close()
		checkEmpty(t, d)
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
func TestInbox_TakenOverInOrder(t *testing.T) {
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
		heir := s.subscribed("t", 2, few, mqtt.WithBuffer(0))
		s.message(0x32, 32, "t", "l")
		for i := range 12 {
			took(t, heir, string('a'+rune(i)), 0, i < 10)
		}
	})
}

// The slow policies hold: what does not fit waits in the store, the reader with it,
// and a subscription that ends gives up what it has not handed over.
func TestInbox_EndGivesUp(t *testing.T) {
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
		s.conn.Close()
		checkEmpty(t, d)
	})
}

// What waits for a detached subscription that nobody came back for is given up
// with its filter, and told.
func TestInbox_DetachedForGood(t *testing.T) {
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
		s.ExpectPacket() // UNSUBSCRIBE
		synctest.Wait()
		total := 0 // each event tells what was dropped so far, and two are on their way
		for _, e := range told[mqtt.MessageDropped](s.conn) {
			total = max(total, int(e.Total))
		}
		if total != 10 || s.conn.Stats().Held > 0 {
			t.Errorf("told of %d, %d held", total, s.conn.Stats().Held)
		}
		s.conn.Close()
		checkEmpty(t, d)
	})
}

// What waits in the store at the end of the Conn is not dropped.
func TestInbox_KeptAtTheEnd(t *testing.T) {
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

// Drain hands out what waits in the store as well, and ends when that is
// acknowledged: by the application, or for it.
func TestInbox_Drain(t *testing.T) {
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

// Drain leaves what it did not get to in its time, and what nobody takes, in the store.
func TestInbox_DrainCutShort(t *testing.T) {
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
func TestInbox_DrainRefused(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.inbox(t, v, false)
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

func TestInbox_NeedsAStore(t *testing.T) {
	_, err := mqtt.Connect(t.Context(), "mqtt://127.0.0.1:1", mqtt.WithInbox())
	if _, ok := errors.AsType[*mqtt.InvalidError](err); !ok {
		t.Errorf("%v", err)
	}
}

// B15: the reader waits for each subscription that has no room, also when another
// one said so after it. What it has in the store stays what was under way, however
// often the other makes room.
func TestInbox_EachSlowConsumerIsWaitedFor(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		few := []mqtt.SubscribeOption{mqtt.WithPendingLimit(2, 0), mqtt.WithBuffer(0), mqtt.WithSlowPolicy(mqtt.SlowBlock)}
		stuck := s.subscribed("stuck", 1, few...)
		slow := s.subscribed("slow", 1, few...).C()
		id := uint16(0)
		for range 50 {
			var packets []byte
			for _, topic := range []string{"stuck", "slow", "slow", "slow"} {
				id++
				packets = append(packets, rawPublish(v, 0x32, id, topic, "x")...)
			}
			s.SendBytes(packets)
			synctest.Wait()
			for range 3 {
				select {
				case <-slow:
				default:
				}
				synctest.Wait()
			}
		}
		if n := stuck.Stats().Pending + s.conn.Stats().Held; n > 10 {
			t.Errorf("%d messages were entered for a subscription that takes none, whose limit is 2", n)
		}
	})
}

// B22: a message that cannot be read for long stays in the store for a later
// process, and holds up no other. Nobody waits for it, Drain neither.
func TestInbox_ReadFailsForGood(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{d.mem, 10, syscall.EIO}))
		sub := s.subscribed("t", 2)
		expect(t, sub.C(), "b", "c")
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) != 2 || evs[1].Final {
			t.Errorf("%+v", evs)
		}
		if err := s.conn.Drain(t.Context()); err != nil {
			t.Error(err)
		}
		s = d.inbox(t, v, true)
		took(t, s.subscribed("t", 2), "a", 0, true)
		s.conn.Close()
		checkEmpty(t, d)
	})
}

// B15: what comes while older messages cannot be had from the store is entered up
// to half the limit of its subscription. That no message can be handed out is not
// the consumer's fault.
func TestInbox_BehindOlderIsBounded(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 1)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{d.mem, 9, syscall.EIO}), mqtt.WithStuckAfter(time.Second))
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(10, 0))
		messages := sub.C()
		for i := range 100 {
			s.message(0x32, uint16(i+1), "t", "new")
		}
		synctest.Wait()
		if n := s.conn.Stats().Held; n > 8 {
			t.Errorf("%d are in the store, the limit is 10", n)
		}
		for i := range 101 {
			if m := take(t, messages); (i == 0) != m.Redelivered() {
				t.Errorf("message %d: %q", i, m.Payload)
			}
		}
		if err := sub.Err(); err != nil {
			t.Error(err)
		}
	})
}

// between is a store that counts the records read before a commit that is due.
type between struct {
	store.Store
	begin func() // called by the first Read
	reads int
	done  bool
}

func (b *between) Session(id string) (store.Session, error) {
	s, err := b.Store.Session(id)
	return &betweenSession{s, b}, err
}

type betweenSession struct {
	store.Session
	b *between
}

func (s *betweenSession) Read(keys []store.Key, visit func(int, []byte) error) error {
	if s.b.reads == 0 {
		s.b.begin()
	}
	if !s.b.done {
		s.b.reads += len(keys)
	}
	return s.Session.Read(keys, visit)
}

func (s *betweenSession) Commit(ops []store.Op) error {
	s.b.done = s.b.reads > 0
	return s.Session.Commit(ops)
}

// Whatever waits in the store, and however fast it is taken, is handed out between
// commits, not in place of them.
func TestInbox_CommitsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		d := leaveInbox(t, mqtt.V5, 1)
		key, value := d.value(t, store.Inbox, 0)
		for i := range uint64(n) {
			d.put(t, store.Inbox, key.Seq+i, value)
		}
		b := &between{Store: d.mem}
		s := d.inbox(t, mqtt.V5, true, mqtt.WithStore(b))
		b.begin = func() { s.conn.Publish(t.Context(), mqtt.Message{Topic: "u", QoS: 1}) }
		messages := s.subscribed("t", 2).C()
		s.expectPublish(0x32, 2, "u", "")
		s.sendAck(0x40, 2)
		for range n {
			take(t, messages)
		}
		s.conn.Close()
		if checkEmpty(t, d); b.reads > n/2 {
			t.Errorf("a publish was stored after %d of %d messages", b.reads, n)
		}
	})
}

// A key is never another message's: not when the count of processes is damaged,
// nor when a later version wrote it, and nothing but keys tells of earlier ones.
func TestInbox_KeysAreNotGivenAgain(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"damaged":           func(b []byte) []byte { return b[:3] },
		"of a later one":    func(b []byte) []byte { b[0] = 2; return b },
		"of a foreign kind": func(b []byte) []byte { return []byte{2, 1} },
	} {
		t.Run(name, func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				d, keys := newDisk(), map[uint64]bool{}
				for range 4 {
					s := d.inbox(t, v, false)
					m := func() mqtt.Message {
						sub := s.subscribed("t", 2, mqtt.WithManualAck())
						s.message(0x32, 1, "t", "a")
						return took(t, sub, "a", 0, false)
					}()
					if keys[m.InboxKey()] {
						t.Errorf("the key %x again", m.InboxKey())
					}
					keys[m.InboxKey()] = true
					m.Ack()
					s.conn.Close()
					key, value := d.value(t, store.Meta, 0)
					d.put(t, store.Meta, key.Seq, spoil(value))
				}
			})
		})
	}
}
