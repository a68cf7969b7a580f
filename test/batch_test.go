package mqtt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// batch sends PUBLISH packets so that one read brings them all.
func (s *scripted) batch(packets ...[]byte) {
	s.t.Helper()
	s.SendBytes(slices.Concat(packets...))
	synctest.Wait()
}

// One read brings messages of every QoS, a redelivery and a PUBREL: what is new
// is delivered in order, and each is answered in order.
func TestMixedBatchIsDeliveredInOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 2)
		ch := sub.C()
		m := func(head byte, id uint16, payload string) []byte { return rawPublish(v, head, id, "t", payload) }
		s.batch(
			m(0x30, 0, "1"), m(0x32, 1, "2"), m(0x34, 2, "3"), m(0x3A, 1, "2"), m(0x3C, 2, "3"),
			m(0x30, 0, "4"), rawAck(0x62, 2), m(0x34, 2, "5"), m(0x32, 3, "6"),
		)
		expect(t, ch, numbers(1, 6)...)
		idle(t, ch)
		s.ExpectBytes(slices.Concat(
			rawAck(0x40, 1), rawAck(0x50, 2), // due before the PUBREL is answered
			rawAck(0x70, 2),
			rawAck(0x40, 3), rawAck(0x50, 2),
		))
		if st := s.conn.Stats(); st.Received != 6 || st.Redelivered != 2 {
			t.Errorf("%+v", st)
		}
		if st := sub.Stats(); st.Delivered != 6 {
			t.Errorf("%+v", st)
		}
	})
}

// The messages of a batch in front of the one above our Receive Maximum are delivered.
func TestBatchAboveTheReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithReceiveMaximum(3))
		events := s.conn.Watch(t.Context())
		sub := s.subscribed("t", 1, mqtt.WithManualAck())
		ch := sub.C()
		var packets []byte
		for i := range 5 {
			packets = append(packets, rawPublish(mqtt.V5, 0x32, uint16(i+1), "t", fmt.Sprint(i+1))...)
		}
		s.batch(packets)
		expect(t, ch, numbers(1, 3)...)
		idle(t, ch)
		err, ok := errors.AsType[*mqtt.ProtocolError](nextEvent[mqtt.Disconnected](t, events).Err)
		if !ok || err.Code != codec.ReceiveMaximumExceeded {
			t.Errorf("%v", err)
		}
	})
}

// A link that dies while the reader waits for a slow consumer leaves no message
// of its batch behind: the ledger knows them all, so that their redeliveries are
// not delivered.
func TestLinkDiesWhileTheReaderWaits(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		events := s.conn.Watch(t.Context())
		sub := s.subscribed("t", 1, mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithBuffer(2), mqtt.WithPendingLimit(10, 0))
		ch := sub.C()
		const n = 30 // in one run: the ledger knows them all
		first, again := []byte(nil), []byte(nil)
		for i := range n {
			first = append(first, rawPublish(v, 0x32, uint16(i+1), "t", fmt.Sprint(i+1))...)
			if i >= 2 { // the channel took two, which are acknowledged
				again = append(again, rawPublish(v, 0x3A, uint16(i+1), "t", fmt.Sprint(i+1))...)
			}
		}
		s.batch(first)
		if e := nextEvent[mqtt.SlowConsumer](t, events); !e.Paused {
			t.Errorf("%+v", e)
		}
		time.Sleep(2 * time.Second)
		s.Cut()
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "p"}) // a write finds out
		s.next(connack(v, v != mqtt.V31))
		if st := sub.Stats(); st.Pending != n-2 {
			t.Errorf("%+v", st)
		}
		if v == mqtt.V31 {
			return // what is pending is of a session that is lost, as far as 3.1 can tell
		}
		s.batch(again)
		expect(t, ch, numbers(1, n)...)
		idle(t, ch)
	})
}

// Random batches over subscriptions that share topics: each has its messages in
// the order of arrival and none twice, however they are gathered.
func TestRandomBatches(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 11))
			s := script(t, mqtt.V311)
			type reader struct {
				takes []string
				ch    <-chan mqtt.Message
				want  []string
			}
			var readers []*reader
			for _, r := range []reader{{takes: []string{"a/1", "a/2"}}, {takes: []string{"a/1"}}, {takes: []string{"b"}}} {
				filter := r.takes[0]
				if len(r.takes) > 1 {
					filter = "a/+"
				}
				sub := s.subscribed(filter, 1, mqtt.WithBuffer(rng.IntN(300)))
				readers = append(readers, &reader{takes: r.takes, ch: sub.C()})
			}
			id := uint16(0)
			for range 30 {
				var packets []byte
				for range rng.IntN(200) {
					id++
					topic := []string{"a/1", "a/2", "b", "none"}[min(3, rng.IntN(40)/12)]
					head := byte(0x30 | rng.IntN(2)<<1)
					packets = append(packets, rawPublish(mqtt.V311, head, id, topic, fmt.Sprint(id))...)
					for _, r := range readers {
						if slices.Contains(r.takes, topic) {
							r.want = append(r.want, fmt.Sprint(id))
						}
					}
				}
				s.batch(packets)
				for _, r := range readers {
					n := rng.IntN(len(r.want) + 1)
					expect(t, r.ch, r.want[:n]...)
					r.want = r.want[n:]
				}
			}
			for _, r := range readers {
				expect(t, r.ch, r.want...)
				idle(t, r.ch)
			}
			if owed := s.conn.Stats().AcksOwed; owed != 0 {
				t.Errorf("seed %d: %d acknowledgements owed", seed, owed)
			}
		})
	}
}
