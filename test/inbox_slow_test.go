package mqtt_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// Slow consumers of the durable inbox, and slow disks.

// The reader waits for each subscription that has no room, also when another
// one said so after it. What it has in the store stays what was in flight, however
// often the other makes room.
func TestInboxWaitsForEachSlowConsumer(t *testing.T) {
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

// What comes while older messages cannot be had from the store is entered up
// to the limit of its subscription. That no message can be handed out is not
// the consumer's fault.
func TestInboxBehindUnreadableMessagesIsBounded(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 1)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{Store: d.mem, fails: 9, err: syscall.EIO}), mqtt.WithStuckAfter(time.Second))
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(10, 0))
		messages := sub.C()
		for i := range 100 {
			s.message(0x32, uint16(i+1), "t", "new")
		}
		synctest.Wait()
		if n := s.conn.Stats().Held; n > 12 {
			t.Errorf("%d are in the store, an old one among them, the limit is 10", n)
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
// commits, not instead of them.
func TestInboxHandsOutBetweenCommits(t *testing.T) {
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

// A consumer is slow by what comes, not by what an earlier process left: as
// long as it keeps up with that it is not evicted, and holds up no other.
func TestInboxOfAnEarlierProcessIsNotSlowness(t *testing.T) {
	for _, policy := range []mqtt.SlowPolicy{mqtt.SlowHold, mqtt.SlowEvict} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				d := leaveInbox(t, v, 10)
				s := d.inbox(t, v, true)
				sub := s.subscribed("t", 2, mqtt.WithSlowPolicy(policy), mqtt.WithPendingLimit(4, 0), mqtt.WithBuffer(0))
				for i := range 4 {
					s.message(0x32, uint16(i+31), "t", string('k'+rune(i)))
					s.ExpectBytes(rawAck(0x40, uint16(i+31)))
				}
				s.subscribed("other", 1) // its SUBACK stands behind
				for i := range 14 {
					took(t, sub, string('a'+rune(i)), 0, i < 10)
				}
				if err := sub.Err(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What is entered for a slow consumer stays within its limit, and what
// is in flight, for as long as it is slow.
func TestInboxOfASlowConsumerIsBounded(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		s.p.mu.Lock()
		s.p.seen = func([]store.Op) { time.Sleep(10 * time.Millisecond) } // a disk
		s.p.mu.Unlock()
		sub := s.subscribed("t", 1, mqtt.WithPendingLimit(2, 0), mqtt.WithBuffer(0), mqtt.WithSlowPolicy(mqtt.SlowBlock))
		slow, w := sub.C(), s.patient()
		go func() {
			for id := uint16(1); ; id++ {
				if _, err := w.Write(rawPublish(v, 0x32, id, "t", "x")); err != nil {
					return
				}
			}
		}()
		for range 400 {
			time.Sleep(100 * time.Millisecond)
			<-slow
			if n := s.conn.Stats().Held + sub.Stats().Pending; n > 20 {
				t.Fatalf("%d messages in the store, 10 at the beginning, for a limit of 2", n)
			}
		}
		s.conn.Abort()
	})
}

// What waits for a commit counts for the limit of its subscription.
func TestInboxOnASlowDiskIsBounded(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		sub := s.subscribed("t", 1, mqtt.WithPendingLimit(0, 1<<20))
		s.hold()
		payload, w := string(make([]byte, 100<<10)), s.patient()
		go func() {
			for i := range 500 {
				if _, err := w.Write(rawPublish(v, 0x32, uint16(i+1), "t", payload)); err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Minute) // which is the disk's fault, not the consumer's
		if n := s.conn.Stats().Received; n > 11 || sub.Err() != nil {
			t.Errorf("%d messages of 100 KiB are in memory, the limit is 1 MiB; %v", n, sub.Err())
		}
		s.open()
		s.conn.Abort()
	})
}

// QoS 0 that came before a message for which the reader waits is handed over.
func TestQoS0BeforeAPauseIsDelivered(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		s.subscribed("stuck", 1, mqtt.WithPendingLimit(2, 0), mqtt.WithSlowPolicy(mqtt.SlowBlock))
		fast := s.subscribed("fast", 1).C()
		for i := range 3 {
			s.message(0x32, uint16(i+1), "stuck", "x")
		}
		s.batch(rawPublish(v, 0x30, 0, "fast", "now"), rawPublish(v, 0x32, 9, "stuck", "x"))
		expect(t, fast, "now")
	})
}

// patient returns the server's end of the connection, whose writes wait as long as
// it takes.
func (s *storedScript) patient() net.Conn {
	w := s.Wire.Conn()
	w.SetWriteDeadline(time.Time{})
	return w
}

// QoS 0 does not keep out what is in the store: it gives way, as without an inbox.
func TestQoS0GivesWayToTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 10)
		s := d.inbox(t, v, true)
		sub := s.subscribed("t", 2, mqtt.WithPendingLimit(4, 0))
		next := make(chan mqtt.Message)
		sub.Handle(func(m mqtt.Message) {
			select {
			case next <- m:
			case <-s.conn.Done():
			}
		})
		kept := 0
		for range 50 {
			for range 5 {
				s.message(0x30, 0, "t", "0")
			}
			if m := <-next; m.QoS > 0 {
				kept++
			}
			synctest.Wait()
		}
		if s.conn.Abort(); kept < 10 {
			t.Errorf("among 50 messages are %d of the 10 that were there first", kept)
		}
	})
}

// "Keep the latest" keeps the latest, also when an older message comes from the store.
func TestSlowLatestOverTheInboxKeepsTheLatest(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 1)
		s := d.inbox(t, v, true, mqtt.WithBacklogGrace(10*time.Second))
		sub := s.subscribed("+", 2, mqtt.WithSlowPolicy(mqtt.SlowLatest))
		s.message(0x32, 9, "t", "newest")
		time.Sleep(11 * time.Second)
		expect(t, sub.C(), "newest")
		idle(t, sub.C())
		if n := sub.Stats().Dropped; n != 1 {
			t.Errorf("%d dropped", n)
		}
	})
}

// What no subscription has yet is bounded too: beyond the default limit of a subscription
// the reader waits until one subscribes, or the grace is over.
func TestInboxBacklogIsBounded(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, true, mqtt.WithBacklogGrace(10*time.Second), mqtt.WithReceiveMaximum(65535))
		payload, w := string(make([]byte, 1<<20)), s.patient()
		go func() {
			for i := range 100 {
				if _, err := w.Write(rawPublish(v, 0x32, uint16(i+1), "t", payload)); err != nil {
					return
				}
			}
		}()
		time.Sleep(5 * time.Second)
		if n := s.conn.Stats().Received; n > 65 {
			t.Errorf("%d MiB are in the store, the limit is 64 MiB", n)
		}
		time.Sleep(6 * time.Second)
		if st := s.conn.Stats(); st.Received != 100 || st.Held+int(st.Unmatched) != 100 || st.Held > 66 {
			t.Errorf("after the grace %d received, %d held, %d unmatched", st.Received, st.Held, st.Unmatched)
		}
		sub := s.subscribedBehind("t", 1)
		for range s.conn.Stats().Held {
			take(t, sub.C())
		}
	})
}
