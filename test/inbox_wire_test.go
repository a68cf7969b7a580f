package mqtt_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// kinds counts the records on d by kind.
func (d *disk) kinds(t *testing.T) map[store.Kind]int {
	t.Helper()
	counts := map[store.Kind]int{}
	for _, k := range d.records(t) {
		if k.Kind != store.Meta {
			counts[k.Kind]++
		}
	}
	return counts
}

// inbox starts a process on d with a durable inbox.
func (d *disk) inbox(t *testing.T, v mqtt.Version, present bool, opts ...mqtt.ConnectOption) *storedScript {
	t.Helper()
	return d.script(t, v, present, append(opts, mqtt.WithInbox())...)
}

// took takes a message and checks what the inbox says of it.
func took(t *testing.T, sub *mqtt.Subscription, payload string, key uint64, redelivered bool) mqtt.Message {
	t.Helper()
	m := take(t, sub.C())
	if string(m.Payload) != payload || m.Redelivered() != redelivered || m.InboxKey() == 0 || key != 0 && m.InboxKey() != key {
		t.Fatalf("got %q, key %d, redelivered %t, want %q, %d, %t", m.Payload, m.InboxKey(), m.Redelivered(), payload, key, redelivered)
	}
	return m
}

// The server is answered, and the application gets the message, when the record
// is durable, not before; Ack deletes the record.
func TestInboxStoresBeforeItAnswers(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
			sub := s.subscribed("t", 2, mqtt.WithManualAck())
			s.hold()
			s.message(0x30|qos<<1, 7, "t", "a")
			s.ExpectNothing(time.Minute)
			idle(t, sub.C())
			s.letGo()
			s.ExpectBytes(rawAck(0x30+0x10*qos, 7))
			s.open()
			m := took(t, sub, "a", 0, false)
			if qos == 2 {
				s.release(7)
			}
			s.ExpectNothing(time.Minute)
			if owed := s.conn.Stats().AcksOwed; owed > 0 {
				t.Errorf("%d acknowledgements are owed to the server", owed)
			}
			if err := m.Ack(); err != nil {
				t.Error(err)
			}
			if err := m.Ack(); !errors.Is(err, mqtt.ErrAcked) {
				t.Errorf("the second Ack: %v", err)
			}
			if m.InboxKey() == 0 {
				t.Error("the key is gone after Ack")
			}
			s.closeEmpty(d)
		})
	}
}

// What the next process does after a crash around the commit.
func TestInboxOverACrashAroundTheCommit(t *testing.T) {
	for _, tt := range []struct {
		name    string
		stored  bool // the commit was durable when the process died
		present bool // the server has the session
	}{
		{"before the commit, session resumed", false, true},
		{"after the commit, session resumed", true, true},
		{"after the commit, session lost", true, false},
	} {
		for _, qos := range []byte{1, 2} {
			t.Run(tt.name, func(t *testing.T) {
				onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
					s.subscribed("t", 2, mqtt.WithManualAck())
					s.p.mu.Lock()
					s.p.commits, s.p.after = 1, tt.stored
					s.p.mu.Unlock()
					s.message(0x30|qos<<1, 7, "t", "a")
					s.crash()

					s = d.inbox(t, v, tt.present)
					sub := s.subscribed("t", 2, mqtt.WithManualAck())
					var key uint64
					if tt.stored {
						key = took(t, sub, "a", 0, true).InboxKey()
					}
					if tt.present {
						s.message(0x38|qos<<1, 7, "t", "a")
						s.ExpectBytes(rawAck(0x30+0x10*qos, 7))
					}
					switch {
					case !tt.stored, qos == 1 && tt.present: // whether PUBACK was sent is not known
						took(t, sub, "a", 0, false)
					default:
						idle(t, sub.C())
					}
					s.crash()

					s = d.inbox(t, v, true)
					sub = s.subscribed("t", 2)
					took(t, sub, "a", key, true)
					if tt.stored && qos == 1 && tt.present {
						took(t, sub, "a", 0, true)
					}
					idle(t, sub.C())
					if qos == 2 && tt.present {
						s.release(7)
					}
					s.closeEmpty(d)
				})
			})
		}
	}
}

// What was acknowledged comes again as long as that is not durable, with the key
// and the mark by which an application tells.
func TestInboxOverACrashAfterAck(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		sub := s.subscribed("t", 2, mqtt.WithManualAck())
		s.message(0x34, 1, "t", "a")
		s.message(0x34, 2, "t", "b")
		a, b := took(t, sub, "a", 0, false), took(t, sub, "b", 0, false)
		if a.InboxKey() == b.InboxKey() {
			t.Errorf("two messages have the key %d", a.InboxKey())
		}
		b.Ack()
		synctest.Wait()
		s.hold()
		if err := a.Ack(); err != nil {
			t.Error(err)
		}
		s.crash()
		if err := a.Ack(); !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("Ack after the end: %v", err)
		}
		s = d.inbox(t, v, true)
		sub = s.subscribed("t", 2)
		took(t, sub, "a", a.InboxKey(), true)
		idle(t, sub.C())
	})
}

// What an earlier process left comes first, in order, although its reader
// has room for two at a time and the server sends at once; also without a link.
func TestInboxOfAnEarlierProcessComesFirst(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		s.subscribed("t", 2, mqtt.WithManualAck())
		for i := range byte(20) {
			s.message(0x32+2*(i%2), uint16(i+1), "t", string('a'+rune(i)))
		}
		s.crash()
		s = d.inbox(t, v, true, mqtt.WithSubscription("t", mqtt.QoS(2), mqtt.WithPendingLimit(2, 0), mqtt.WithBuffer(0), mqtt.WithManualAck()))
		sub := s.conn.Subscription("t")
		for i := range byte(5) {
			s.message(0x32, uint16(i+31), "t", string('u'+rune(i)))
		}
		synctest.Wait()
		if st := sub.Stats(); st.Pending > 3 {
			t.Errorf("%d messages are in memory, the limit is 2", st.Pending)
		}
		s.offline()
		for i := range byte(21) { // of the new ones the reader took one, and stopped
			took(t, sub, string('a'+rune(i)), 0, i < 20).Ack()
		}
		for synctest.Wait(); sub.Stats().Pending > 0; synctest.Wait() { // those that came with the end of the link
			take(t, sub.C()).Ack()
		}
		if held := s.conn.Stats().Held; held > 0 {
			t.Errorf("%d messages are still held", held)
		}
	})
}

// A message waits for a subscription of the filter that it came for; after the
// grace any subscription that matches gets it, at last the catch-all. Without one it
// stays for a later process.
func TestInboxWaitsForItsFilterThenForAnyMatch(t *testing.T) {
	leave := func(t *testing.T, v mqtt.Version) *disk {
		d := newDisk()
		s := d.inbox(t, v, false)
		s.subscribed("a/#", 1, mqtt.WithManualAck())
		s.message(0x32, 1, "a/b", "x")
		s.crash()
		return d
	}
	quick := mqtt.WithBacklogGrace(10 * time.Second)
	t.Run("the same filter", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := leave(t, v).inbox(t, v, true, quick)
			other := s.subscribed("#", 1)
			idle(t, other.C())
			took(t, s.subscribed("a/#", 1), "x", 0, true)
			time.Sleep(time.Minute)
			idle(t, other.C())
		})
	})
	t.Run("another that matches", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := leave(t, v).inbox(t, v, true, quick)
			other := s.subscribed("+/b", 1)
			idle(t, other.C())
			time.Sleep(11 * time.Second)
			took(t, other, "x", 0, true)
			idle(t, s.subscribed("a/#", 1).C())
		})
	})
	t.Run("the catch-all", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := leave(t, v).inbox(t, v, true, quick)
			other := s.conn.CatchAll()
			idle(t, other.C())
			time.Sleep(11 * time.Second)
			took(t, other, "x", 0, true)
		})
	})
	t.Run("nobody", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leave(t, v)
			s := d.inbox(t, v, true, quick)
			s.subscribed("b", 1)
			time.Sleep(time.Hour)
			if held := s.conn.Stats().Held; held != 1 {
				t.Errorf("%d messages are held, want 1", held)
			}
			s.conn.Close()
			s = d.script(t, v, true) // no inbox: it is left alone
			idle(t, s.subscribed("a/#", 1).C())
			s.conn.Close()
			s = d.inbox(t, v, true, quick)
			time.Sleep(time.Minute)
			took(t, s.subscribed("a/#", 1), "x", 0, true)
		})
	})
}

// What the backlog brings before its subscription exists is acknowledged and kept,
// for as long as it takes.
func TestInboxKeepsTheBacklog(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.inbox(t, v, true, mqtt.WithBacklogGrace(10*time.Second))
		s.message(0x32, 1, "t", "a")
		s.message(0x34, 2, "t", "b")
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectBytes(rawAck(0x50, 2))
		time.Sleep(time.Minute)
		if st := s.conn.Stats(); st.Held != 2 || st.Unmatched > 0 {
			t.Errorf("%d held, %d unmatched, want 2 and 0", st.Held, st.Unmatched)
		}
		s.message(0x32, 3, "u", "too late")
		s.ExpectBytes(rawAck(0x40, 3))
		sub := s.subscribed("+", 2)
		took(t, sub, "a", 0, false)
		took(t, sub, "b", 0, false)
		idle(t, sub.C())
		if st := s.conn.Stats(); st.Held != 0 || st.Unmatched != 1 {
			t.Errorf("%d held, %d unmatched, want 0 and 1", st.Held, st.Unmatched)
		}
	})
}

// A session that the server loses takes nothing with it of what is in the inbox.
func TestInboxOutlivesALostSession(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		sub := s.subscribed("t", 2, mqtt.WithManualAck())
		s.message(0x34, 1, "t", "a")
		s.ExpectBytes(rawAck(0x50, 1))
		m := took(t, sub, "a", 0, false)
		s.recut(connack(v, false))
		s.ExpectPacket() // SUBSCRIBE
		s.message(0x34, 1, "t", "b")
		s.ExpectBytes(rawAck(0x50, 1))
		took(t, sub, "b", 0, false).Ack()
		if err := m.Ack(); err != nil {
			t.Errorf("Ack of a message of the lost session: %v", err)
		}
		s.release(1)
		s.closeEmpty(d)
	})
}

// A store that fails, or is full, acknowledges nothing: the link ends, and
// what the server sends again is in order.
func TestInboxStoreFailureAcknowledgesNothing(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		events := s.conn.Watch(t.Context())
		sub := s.subscribed("t", 2)
		synctest.Wait()
		s.p.mu.Lock()
		fails := true
		s.p.fail = func(ops []store.Op) error {
			if fails && slices.ContainsFunc(ops, func(op store.Op) bool { return op.Key.Kind == store.Inbox && !op.Delete }) {
				fails = false
				return store.ErrFull
			}
			return nil
		}
		s.p.mu.Unlock()
		s.hold()
		s.message(0x32, 1, "t", "a")
		s.message(0x34, 2, "t", "b") // the next batch
		s.message(0x32, 3, "t", "c")
		s.open()
		s.ExpectEOF()
		idle(t, sub.C())
		down := nextEvent[mqtt.Disconnected](t, events)
		if e, ok := errors.AsType[*mqtt.StoreError](down.Err); !ok || !errors.Is(e, store.ErrFull) {
			t.Errorf("the link ended with %v", down.Err)
		}
		s.next(connack(v, true))
		s.message(0x3A, 1, "t", "a")
		s.message(0x3C, 2, "t", "b")
		s.message(0x3A, 3, "t", "c")
		s.ExpectBytes(rawAck(0x40, 1))
		s.ExpectBytes(rawAck(0x50, 2))
		s.ExpectBytes(rawAck(0x40, 3))
		expect(t, sub.C(), "a", "b", "c")
		idle(t, sub.C())
		s.release(2)
		s.closeEmpty(d)
	})
}

func TestInboxNeedsAStore(t *testing.T) {
	_, err := mqtt.Connect(t.Context(), "mqtt://127.0.0.1:1", mqtt.WithInbox())
	if _, ok := errors.AsType[*mqtt.InvalidError](err); !ok {
		t.Errorf("%v", err)
	}
}

// The backlog of a session ends with it, also when the session is lost
// within the grace: what is not subscribed to afterwards is not kept.
func TestInboxBacklogEndsWithTheSession(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, true, mqtt.WithBacklogGrace(10*time.Second))
		s.recut(connack(v, false)) // within the grace
		time.Sleep(time.Hour)
		s.message(0x32, 1, "nobody", "x")
		s.ExpectBytes(rawAck(0x40, 1))
		if st := s.conn.Stats(); st.Held != 0 || st.Unmatched != 1 {
			t.Errorf("%d held, %d unmatched, want 0 and 1", st.Held, st.Unmatched)
		}
	})
}

// What is held for no subscription yet keeps its retain flag.
func TestInboxBacklogKeepsTheRetainFlag(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, true)
		s.message(0x33, 1, "t", "a")
		if m := took(t, s.subscribedBehind("t", 2), "a", 0, false); !m.Retained() {
			t.Error("not retained")
		}
	})
}

// A catch-all that was declared has at once what came for one.
func TestInboxOfADeclaredCatchAll(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.inbox(t, v, false, mqtt.WithCatchAll(mqtt.WithManualAck()))
		s.message(0x32, 1, "t", "a")
		s.crash()
		began := time.Now()
		conn := d.process(unreachable()).connect(t, v, mqtt.WithInbox(), mqtt.WithCatchAll())
		took(t, conn.CatchAll(), "a", 0, true)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it came after %v", waited)
		}
	})
}
