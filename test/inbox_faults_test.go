package mqtt_test

import (
	"errors"
	"reflect"
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
func TestInboxIsThereAtOnceForADeclaredSubscription(t *testing.T) {
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

// A store that cannot be read for a while delays what is in the inbox, and
// what is newer with it.
func TestInboxReadFailsForAWhile(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{Store: d.mem, fails: 3, err: syscall.EIO}))
		sub := s.subscribed("t", 2)
		s.message(0x32, 9, "t", "d")
		s.ExpectBytes(rawAck(0x40, 9))
		for i := range 4 {
			took(t, sub, string('a'+rune(i)), 0, i < 3)
		}
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) != 1 || !errors.Is(evs[0].Err, syscall.EIO) || evs[0].Final {
			t.Errorf("%+v", evs)
		}
		s.closeEmpty(d)
	})
}

// A damaged record costs its own message alone, and is told.
func TestDamagedInboxRecordCostsItsOwnMessageAlone(t *testing.T) {
	t.Run("found when it is read", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			s := d.inbox(t, v, true, mqtt.WithStore(&faulty{Store: d.mem, fails: 1, err: &store.DamageError{Problem: "checksum"}}))
			sub := s.subscribed("t", 2)
			expect(t, sub.C(), "b", "c")
			if evs := told[mqtt.StoreDamaged](s.conn); len(evs) != 1 || evs[0].Left {
				t.Errorf("%+v", evs)
			}
			s.closeEmpty(d)
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
			s.closeEmpty(d)
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
func TestInboxMessageIsWhole(t *testing.T) {
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

// A message that cannot be read for long stays in the store for a later
// process, and holds up no other. Neither a subscription nor Drain waits for it.
func TestInboxReadFailsForGood(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{Store: d.mem, fails: 10, err: syscall.EIO}))
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
		s.closeEmpty(d)
	})
}

// Reads that fail are tried again twice a second, however many subscriptions wait.
func TestFailingInboxReadsRest(t *testing.T) {
	onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		filters := []string{"a", "b", "c", "d"}
		for i, f := range filters {
			s.subscribed(f, 2, mqtt.WithManualAck())
			s.message(0x32, uint16(i+1), f, f)
			s.ExpectBytes(rawAck(0x40, uint16(i+1)))
		}
		s.crash()
		f := &faulty{Store: d.mem, fails: -1, err: syscall.EIO}
		s = d.inbox(t, v, true, mqtt.WithStore(f))
		for _, f := range filters {
			if _, err := s.conn.Subscribe(t.Context(), f, mqtt.WithoutWaiting()); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		before := f.left()
		time.Sleep(time.Second)
		if n := before - f.left(); n > 3*len(filters) {
			t.Errorf("%d reads within a second, want 3 for each subscription at most", n)
		}
	})
}

// A key is never another message's: not when the count of processes is damaged,
// nor when a later version wrote it, and nothing but keys tells of earlier ones.
func TestInboxKeysAreNotGivenAgain(t *testing.T) {
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
