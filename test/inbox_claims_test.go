package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/testhook"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// To whom a message in the durable inbox is owed, filter by filter, and what ends that.

// scoped subscribes with a context that the test ends.
func (s *storedScript) scoped(filter string, qos byte, opts ...mqtt.SubscribeOption) (*mqtt.Subscription, context.CancelFunc) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	sub, err := s.conn.Subscribe(ctx, filter, append(opts, mqtt.WithoutWaiting())...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.grant(qos)
	return sub, cancel
}

// busy has a commit in progress until open.
func (s *storedScript) busy() {
	s.hold()
	s.conn.Publish(s.t.Context(), mqtt.Message{Topic: "busy", QoS: 1})
	synctest.Wait()
}

// leaveTwice is a process that dies with a message on a/b, which came for a/b and a/+.
func leaveTwice(t *testing.T, v mqtt.Version) *disk {
	d := newDisk()
	s := d.inbox(t, v, false)
	s.subscribed("a/b", 1, mqtt.WithManualAck())
	s.subscribed("a/+", 1, mqtt.WithManualAck())
	s.message(0x32, 1, "a/b", "a")
	s.crash()
	return d
}

// checkSettled checks that everything is said and done, an hour later.
func checkSettled(t *testing.T, s *storedScript, d *disk) {
	t.Helper()
	time.Sleep(time.Hour)
	if n := s.conn.Stats().Held; n > 0 {
		t.Errorf("%d held", n)
	}
	for _, problem := range testhook.InboxProblems(s.conn) {
		t.Error(problem)
	}
	s.conn.Abort()
	checkInbox(t, d, 0)
}

// What one subscription leaves is no reason to keep the message from another filter.
func TestInboxIsKeptForEachFilter(t *testing.T) {
	for name, earlier := range map[string]bool{"of an earlier process": true, "of this one": false} {
		t.Run(name, func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				var s *storedScript
				var cancel context.CancelFunc
				if earlier {
					s = leaveTwice(t, v).inbox(t, v, true)
					_, cancel = s.scoped("a/b", 1)
					synctest.Wait()
				} else {
					s = newDisk().inbox(t, v, false)
					_, detach := s.scoped("a/+", 1)
					_, cancel = s.scoped("a/b", 1)
					detach()
					synctest.Wait()
					s.message(0x32, 1, "a/b", "a")
				}
				s.busy()
				other := s.subscribedBehind("a/+", 1)
				cancel()
				synctest.Wait()
				s.open()
				took(t, other, "a", 0, earlier)
			})
		})
	}
}

// A subscription of several filters that has lost one is still owed the messages of
// the rest.
func TestInboxIsKeptForTheFiltersThatAreLeft(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.conn.SubscribeMany(ctx, []mqtt.Filter{{Pattern: "a/b", QoS: 1}, {Pattern: "a/+", QoS: 1}}, mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		if v == mqtt.V5 { // an identifier for each
			s.grant(1)
			s.grant(1)
		} else {
			s.grant(1, 1)
		}
		cancel()
		synctest.Wait()
		plus := s.subscribedBehind("a/+", 1)
		s.message(0x32, 1, "a/b", "x")
		expect(t, plus.C(), "x")
		s.ExpectBytes(rawAck(0x40, 1))
		s.message(0x30, 0, "a/b", "0") // is not kept, and comes once
		expect(t, plus.C(), "0")
		idle(t, plus.C())
		expect(t, s.subscribedBehind("a/b", 1).C(), "x")
	})
}

// After the grace of a restart a message is not kept for the filters that were not
// subscribed again, once one subscription has it.
func TestInboxIsKeptForAFilterUntilTheGraceIsOver(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		first func(s *storedScript)
	}{
		"none":            {-1, func(*storedScript) {}},
		"taken after it":  {10 * time.Second, func(*storedScript) { time.Sleep(11 * time.Second) }},
		"released within": {10 * time.Second, func(s *storedScript) { _, cancel := s.scoped("a/b", 1); cancel(); synctest.Wait() }},
	} {
		t.Run(name, func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				d := leaveTwice(t, v)
				s := d.inbox(t, v, true, mqtt.WithBacklogGrace(c.grace))
				c.first(s)
				took(t, s.subscribedBehind("a/b", 1), "a", 0, true)
				checkSettled(t, s, d)
			})
		})
	}
}

// The grace of a restart begins when the application can subscribe.
func TestInboxGraceBeginsWithConnect(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 3)
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		network.RefuseDials(30, nil) // for longer than the grace
		conn := d.process(network).connect(t, v, mqtt.WithInbox(), mqtt.WithFirstConnect(mqtt.FirstConnectRetry),
			mqtt.WithSubscription("#", mqtt.QoS(2)))
		sub, err := conn.Subscribe(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, sub.C(), "a", "b", "c")
		conn.Close()
	})
}

// Conn.Unsubscribe gives up what is on its way to the disk as well, in whichever
// commit, and nothing that came for a later Subscribe.
func TestUnsubscribeGivesUpMessagesInACommit(t *testing.T) {
	for name, first := range map[string]func(*storedScript){"in the next commit": (*storedScript).busy, "in this commit": (*storedScript).hold} {
		t.Run(name, func(t *testing.T) {
			onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
				_, cancel := s.scoped("t", 1)
				cancel()
				synctest.Wait()
				first(s)
				s.message(0x32, 1, "t", "a")
				go s.conn.Unsubscribe(t.Context(), "t")
				synctest.Wait()
				_, cancel = s.scoped("t", 1)
				s.message(0x32, 2, "t", "b")
				cancel()
				synctest.Wait()
				s.open()
				synctest.Wait()
				if n := s.conn.Stats().Held; n != 1 {
					t.Errorf("%d held, want the message that came since", n)
				}
				expect(t, s.subscribedBehind("t", 1).C(), "b")
				checkSettled(t, s, d)
			})
		})
	}
}

// subscribeInVain begins a Subscribe that ends after a second, and takes its packet.
func (s *storedScript) subscribeInVain(filter string) (failed <-chan error) {
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	context.AfterFunc(ctx, cancel)
	go func() {
		_, err := s.conn.Subscribe(ctx, filter)
		result <- err
	}()
	s.ExpectPacket()
	return result
}

// A Subscribe that fails has claimed nothing: what was left, and what comes meanwhile,
// is no longer kept for it than if it had never been.
func TestFailedSubscribeClaimsNothingOfTheInbox(t *testing.T) {
	t.Run("beside one that succeeds", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 1)
			s := d.inbox(t, v, true)
			failed := s.subscribeInVain("t")
			sub, err := s.conn.Subscribe(t.Context(), "t", mqtt.WithoutWaiting())
			if err != nil {
				t.Fatal(err)
			}
			if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Subscribe returned %v", err)
			}
			s.grant(1)
			took(t, sub, "a", 0, true)
			checkSettled(t, s, d)
		})
	})
	t.Run("beside a reader", func(t *testing.T) {
		onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
			sub := s.subscribed("t", 1)
			failed := s.subscribeInVain("t")
			s.message(0x32, 1, "t", "a")
			expect(t, sub.C(), "a")
			if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Subscribe returned %v", err)
			}
			checkSettled(t, s, d)
		})
	})
	t.Run("unsubscribed meanwhile", func(t *testing.T) {
		onDiskWithInbox(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
			failed := s.subscribeInVain("t")
			s.message(0x32, 1, "t", "a")
			s.ExpectBytes(rawAck(0x40, 1))
			go s.conn.Unsubscribe(t.Context(), "t")
			if err := <-failed; !errors.Is(err, mqtt.ErrUnsubscribed) {
				t.Errorf("Subscribe returned %v", err)
			}
			checkSettled(t, s, d)
		})
	})
	t.Run("refused within the grace", refusedSubscribeWithinTheGrace)
}

func refusedSubscribeWithinTheGrace(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveInbox(t, v, 1)
		s := d.inbox(t, v, true, mqtt.WithBacklogGrace(10*time.Second))
		all := s.subscribed("#", 1)
		refused := make(chan error, 1)
		go func() {
			_, err := s.conn.Subscribe(t.Context(), "t")
			refused <- err
		}()
		s.grant(0x80)
		if err := <-refused; err == nil {
			t.Error("granted")
		}
		took(t, all, "a", 0, true)
		checkSettled(t, s, d)
	})
}

// A message of a subscription that has ended goes to the next one before what came
// for that, also when both become durable at once.
func TestInboxOlderFirstInOneCommit(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		_, cancel := s.scoped("t", 1)
		s.busy()
		s.message(0x32, 1, "t", "a")
		cancel()
		synctest.Wait()
		next := s.subscribedBehind("t", 1)
		s.message(0x32, 2, "t", "b")
		s.open()
		expect(t, next.C(), "a", "b")
	})
}

// What a pump puts back, of a subscription that was evicted, comes before what was
// pending behind it, also for a subscription that is there by then.
func TestEvictedAndSubscribedAgainKeepsTheOrderOfTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		gate := make(chan struct{})
		slow := mqtt.CodecFunc[string]{DecodeFunc: func(mqtt.Message) (string, error) { <-gate; return "", nil }}
		old, err := mqtt.SubscribeAs(t.Context(), s.conn, "t", slow, mqtt.WithoutWaiting(), mqtt.WithBuffer(0), mqtt.WithImmediateDelivery(),
			mqtt.WithPendingLimit(4, 0), mqtt.WithSlowPolicy(mqtt.SlowEvict))
		if err != nil {
			t.Fatal(err)
		}
		s.grant(1)
		for i := range 8 {
			s.SendBytes(rawPublish(v, 0x32, uint16(i+1), "t", string('a'+rune(i))))
			synctest.Wait()
		}
		if !errors.Is(old.Err(), mqtt.ErrSlowConsumer) {
			t.Fatalf("not evicted: %v", old.Err())
		}
		next := s.subscribedBehind("t", 1)
		other := s.subscribedBehind("u", 1)
		s.SendBytes(rawPublish(v, 0x32, 20, "t", "z"))
		s.SendBytes(rawPublish(v, 0x32, 21, "u", "y"))
		expect(t, other.C(), "y")
		synctest.Wait()
		if n := len(next.C()); n > 0 {
			t.Errorf("%d came before the first", n)
		}
		close(gate)
		expect(t, next.C(), "a", "b", "c", "d", "e", "f", "z") // what came between matched no subscription
		s.conn.Abort()
	})
}

// What gives way under SlowLatest makes room: the reader goes on, and no subscription is evicted.
func TestSlowLatestMakesRoomInTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().inbox(t, v, false)
		sub := s.subscribed("t", 1, mqtt.WithSlowPolicy(mqtt.SlowLatest), mqtt.WithPendingLimit(2, 0))
		s.busy()
		var packets []byte
		for i := range 5 {
			packets = append(packets, rawPublish(v, 0x32, uint16(i+1), "t", fmt.Sprint(i))...)
		}
		s.SendBytes(packets)
		synctest.Wait()
		s.open()
		time.Sleep(time.Minute)
		if n := s.conn.Stats().Received; n != 5 || sub.Err() != nil {
			t.Errorf("%d received, %v", n, sub.Err())
		}
		s.conn.Abort()
	})
}

// A consumer that takes everything at once is not evicted for what the disk or an
// earlier process brought together.
func TestInboxEvictsTheSlowAlone(t *testing.T) {
	evicts := mqtt.WithSlowPolicy(mqtt.SlowEvict)
	t.Run("a slow disk", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := newDisk().inbox(t, v, false)
			sub := s.subscribed("t", 1, evicts, mqtt.WithPendingLimit(4, 0))
			c := sub.C()
			s.busy()
			for i := range 6 {
				s.SendBytes(rawPublish(v, 0x32, uint16(i+1), "t", fmt.Sprint(i)))
			}
			synctest.Wait()
			s.open()
			for i := range 6 {
				if m := take(t, c); string(m.Payload) != fmt.Sprint(i) {
					t.Errorf("%q, want %d", m.Payload, i)
				}
			}
			if err := sub.Err(); err != nil {
				t.Error(err)
			}
			s.conn.Abort()
		})
	})
	t.Run("a QoS 0 message beside many of an earlier process", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := leaveInbox(t, v, 10).inbox(t, v, true)
			sub := s.subscribed("t", 2, evicts, mqtt.WithPendingLimit(4, 0), mqtt.WithBuffer(0))
			c := sub.C()
			synctest.Wait()
			s.message(0x30, 0, "t", "0")
			for range 11 {
				take(t, c)
			}
			if err := sub.Err(); err != nil {
				t.Error(err)
			}
			s.conn.Abort()
		})
	})
}

// A damaged record makes room like one that was handed out.
func TestDamagedRecordMakesRoomInTheInbox(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		f := &faulty{Store: d.mem, fails: 100, err: &store.DamageError{Problem: "checksum"}}
		s := d.inbox(t, v, false, mqtt.WithStore(f), mqtt.WithStuckAfter(time.Hour))
		sub := s.subscribed("t", 1, mqtt.WithPendingLimit(1, 0), mqtt.WithBuffer(0))
		for i := range 8 {
			s.message(0x32, uint16(i+1), "t", fmt.Sprint(i))
		}
		for deadline := time.Now().Add(time.Minute); s.conn.Stats().Received < 8 && time.Now().Before(deadline); {
			select {
			case <-sub.C():
			case <-time.After(time.Second):
			}
		}
		if n := s.conn.Stats().Received; n != 8 {
			t.Errorf("%d of 8 received within a minute", n)
		}
		s.conn.Abort()
	})
}

// Drain waits for what the inbox has not looked at yet, and not for a Subscribe that
// nobody answers.
func TestDrainWaitsForMessagesNotYetAssigned(t *testing.T) {
	t.Run("behind a commit", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s := leaveInbox(t, v, 3).inbox(t, v, true)
			s.busy()
			sub := s.subscribedBehind("t", 1)
			c := sub.C()
			ended := make(chan struct{})
			go func() { s.conn.Drain(t.Context()); close(ended) }()
			synctest.Wait()
			s.open()
			synctest.Wait()
			if len(c) != 3 {
				t.Errorf("%d of 3 handed out", len(c))
			}
			s.conn.Abort()
			<-ended
		})
	})
	t.Run("beside a Subscribe", func(t *testing.T) {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			d := leaveInbox(t, v, 3)
			conn := d.process(unreachable()).connect(t, v, mqtt.WithInbox())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go conn.Subscribe(ctx, "t", mqtt.WithImmediateDelivery())
			synctest.Wait()
			ended := make(chan struct{})
			go func() { conn.Drain(ctx); close(ended) }()
			select {
			case <-ended:
			case <-time.After(time.Hour):
				t.Error("Drain does not end")
			}
		})
	})
}

// A message that cannot be read is left to the next process by all that have it.
func TestUnreadableInboxMessageIsLeftToTheNextProcess(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := leaveTwice(t, v)
		s := d.inbox(t, v, true, mqtt.WithStore(&faulty{Store: d.mem, fails: 10, err: errors.New("input/output error")}))
		one, two := s.subscribed("a/b", 1).C(), s.subscribed("a/+", 1).C()
		time.Sleep(time.Minute)
		if n := len(one) + len(two); n > 0 || s.conn.Stats().Held > 0 {
			t.Errorf("%d handed out, %d held", n, s.conn.Stats().Held)
		}
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) != 2 {
			t.Errorf("%+v", evs)
		}
		for _, problem := range testhook.InboxProblems(s.conn) {
			t.Error(problem)
		}
		s.conn.Abort()
		checkInbox(t, d, 1)
	})
}
