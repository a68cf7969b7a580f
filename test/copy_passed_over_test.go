package mqtt_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// The tests of this file are about a server that sends a copy of each message for each
// filter, of which a subscription takes one.

// subscribeID expects the SUBSCRIBE of filter and returns its packet identifier and
// its subscription identifier, of four bytes since the session is kept.
func (s *scripted) subscribeID(filter string) (id uint16, subID []byte) {
	s.t.Helper()
	p := s.ExpectPacket()
	if p[0] != 0x82 || string(p[12:len(p)-1]) != filter || p[4] != 5 || p[5] != 0x0B {
		s.t.Fatalf("got % X, want SUBSCRIBE of %q with a subscription identifier", p, filter)
	}
	return binary.BigEndian.Uint16(p[2:]), p[6:10]
}

// copyFor sends the copy of a message of QoS 1 that the server sends for the filter
// with the identifier subID.
func (s *scripted) copyFor(subID []byte, head byte, id uint16, payload string) {
	s.t.Helper()
	b := rawPublish(mqtt.V5, head, id, "a/b", payload)
	at := 2 + 2 + len("a/b") + 2
	b = slices.Concat(b[:at], []byte{5, 0x0B}, subID, b[at+1:])
	b[1] += 5
	s.SendBytes(b)
	synctest.Wait()
}

// copyAtMostOnce is copyFor at QoS 0.
func (s *scripted) copyAtMostOnce(subID []byte, payload string) {
	s.t.Helper()
	b := rawPublish(mqtt.V5, 0x30, 0, "a/b", payload)
	at := 2 + 2 + len("a/b")
	b = slices.Concat(b[:at], []byte{5, 0x0B}, subID, b[at+1:])
	b[1] += 5
	s.SendBytes(b)
	synctest.Wait()
}

// A copy that a subscription passes over, while it waits for the copy by another of
// its filters, is only a redelivery when it comes again on the next link. That other
// copy still reaches the subscription there, though its filter is being asked for
// anew, for another subscription.
func TestCopyReachesSubscriptionWhileItsFilterIsAskedForAnew(t *testing.T) {
	for _, offline := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
			sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/+", QoS: 1}, {Pattern: "a/#", QoS: 2}},
				mqtt.WithManualAck(), mqtt.WithoutWaiting())
			if err != nil {
				t.Fatal(err)
			}
			id, plus := s.subscribeID("a/+")
			s.suback(0x90, id, 1)
			id, hash := s.subscribeID("a/#")
			s.suback(0x90, id, 2)
			s.copyFor(hash, 0x32, 1, "not acknowledged yet")
			first := take(t, sub.C())
			s.copyFor(plus, 0x32, 2, "1") // passed over; its PUBACK waits behind the first
			idle(t, sub.C())
			var other *mqtt.Subscription
			again := func() {
				if other, err = s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/#", QoS: 2}}, mqtt.WithoutWaiting()); err != nil {
					t.Fatal(err)
				}
			}
			if offline {
				time.Sleep(2 * time.Second)
				s.Cut()
				synctest.Wait()
				again()
				s.next(connack(mqtt.V5, true))
			} else {
				again()
				s.subscribeID("a/#")
				s.recut(connack(mqtt.V5, true))
			}
			s.copyFor(hash, 0x3A, 1, "not acknowledged yet")
			s.copyFor(plus, 0x3A, 2, "1")
			s.copyFor(hash, 0x32, 3, "1")
			expect(t, sub.C(), "1")
			expect(t, other.C(), "1")
			id, _ = s.subscribeID("a/#")
			s.suback(0x90, id, 2)
			s.copyFor(plus, 0x32, 4, "2")
			s.copyFor(hash, 0x32, 5, "2")
			expect(t, sub.C(), "2")
			expect(t, other.C(), "2")
			idle(t, sub.C())
			if err := first.Ack(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Which copy a subscription takes depends on what it asked for itself. Another subscription
// that gets one of its filters at a higher QoS does not change the choice while a copy by
// the other filter waits at the server.
func TestChoiceOfCopyDoesNotChangeForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/+", QoS: 1}, {Pattern: "a/#", QoS: 0}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		id, plus := s.subscribeID("a/+")
		s.suback(0x90, id, 1)
		id, hash := s.subscribeID("a/#")
		s.suback(0x90, id, 0)
		s.copyAtMostOnce(hash, "1") // passed over: the copy by a/+ waits for the window
		if _, err := s.conn.Subscribe(t.Context(), "a/#", mqtt.QoS(2), mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		id, _ = s.subscribeID("a/#")
		s.suback(0x90, id, 2)
		s.copyAtMostOnce(hash, "2")
		s.copyFor(plus, 0x32, 1, "1")
		s.copyFor(plus, 0x32, 2, "2")
		expect(t, sub.C(), "1", "2")
		idle(t, sub.C())
	})
}

// A server sends QoS 0 at once, and QoS 1 when its window has room. When a second filter
// is granted at a higher QoS, a message of QoS 0 that comes by it says nothing of the
// message of QoS 1 that was published before, for the first filter alone, and still waits.
func TestCopyAtMostOnceDoesNotEndTheWaitForEarlierCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a/+", QoS: 1}, {Pattern: "a/#", QoS: 2}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		id, plus := s.subscribeID("a/+")
		s.suback(0x90, id, 1)
		second, hash := s.subscribeID("a/#")
		s.copyFor(plus, 0x32, 1, "1")
		s.suback(0x90, second, 2)
		s.copyAtMostOnce(hash, "2")
		s.copyAtMostOnce(plus, "2") // passed over
		s.copyFor(plus, 0x32, 2, "3")
		s.copyFor(hash, 0x32, 3, "4")
		s.copyAtMostOnce(plus, "4 at QoS 0") // none comes after that
		s.copyFor(plus, 0x32, 4, "4")        // passed over
		expect(t, sub.C(), "1", "2", "3", "4")
		idle(t, sub.C())
	})
}
