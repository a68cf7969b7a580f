package mqtt_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// rawPublishWith is a PUBLISH with properties.
func rawPublishWith(head byte, id uint16, topic string, properties, payload []byte) []byte {
	body := []byte{byte(len(topic) >> 8), byte(len(topic))}
	body = append(body, topic...)
	if head&6 != 0 {
		body = append(body, byte(id>>8), byte(id))
	}
	body = codec.AppendVarint(body, len(properties))
	body = append(append(body, properties...), payload...)
	return append(codec.AppendVarint([]byte{head}, len(body)), body...)
}

// emptyUserProperties are n bytes of user properties without name and value, which take the
// most memory.
func emptyUserProperties(n int) []byte {
	return slices.Repeat([]byte{0x26, 0, 0, 0, 0}, n/5)
}

// A message with more properties than the limit is dropped, counted, reported and refused by
// its acknowledgement; the link and the messages behind it go on.
func TestMessageWithTooManyProperties(t *testing.T) {
	for qos := range byte(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V5, mqtt.WithMaxPropertySize(1000))
				events := s.conn.Watch(t.Context())
				sub := s.subscribed("t", 2)
				s.SendBytes(rawPublishWith(0x30|qos<<1, 1, "t", emptyUserProperties(1000), []byte("just")))
				s.SendBytes(rawPublishWith(0x30|qos<<1, 2, "t", emptyUserProperties(1005), []byte("too many")))
				s.SendBytes(rawPublishWith(0x30|qos<<1, 3, "t", nil, []byte("behind")))
				if m := take(t, sub.C()); string(m.Payload) != "just" || len(m.Properties.User) != 200 {
					t.Fatalf("got %q with %d user properties", m.Payload, len(m.Properties.User))
				}
				expect(t, sub.C(), "behind")
				answer := byte(0x40 + qos/2<<4)
				if qos > 0 {
					s.ExpectBytes([]byte{answer, 2, 0, 1})
					s.ExpectBytes([]byte{answer, 3, 0, 2, 0x97})
					s.ExpectBytes([]byte{answer, 2, 0, 3})
				}
				e := nextEvent[mqtt.MessageDropped](t, events)
				if tooMany, ok := errors.AsType[*mqtt.PropertiesTooLargeError](e.Err); !ok || *tooMany != (mqtt.PropertiesTooLargeError{Size: 1005, Max: 1000}) {
					t.Errorf("the event has %v", e.Err)
				}
				if st := s.conn.Stats(); st.Oversize != 1 || st.Received != 2 {
					t.Errorf("%d counted, %d received", st.Oversize, st.Received)
				}
				if qos == 2 { // the exchange is over: its identifier may be used
					s.SendBytes(rawPublishWith(0x34, 2, "t", nil, []byte("again")))
					expect(t, sub.C(), "again")
				}
			})
		})
	}
}

// One PUBLISH of 60 MiB of user properties costs little more than its own memory, and the
// end of the Conn does not wait for it.
func TestHugePropertiesTakeNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		s.subscribed("t", 0)
		huge := rawPublishWith(0x30, 0, "t", emptyUserProperties(60<<20), nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.SendBytes(huge)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		// The frame's buffer grows by doubling as bytes arrive.
		if n := after.TotalAlloc - before.TotalAlloc; n > 4*uint64(len(huge)) {
			t.Errorf("%d MiB allocated for %d", n>>20, len(huge)>>20)
		}
		if n := s.conn.Stats().Oversize; n != 1 {
			t.Errorf("%d messages refused", n)
		}
	})
}

// What a server says beside a reason code is kept in part: the error, the result of a
// publish and the Connected event hold some KiB, however long its texts are.
func TestLittleIsKeptOfWhatTheServerSays(t *testing.T) {
	long := strings.Repeat("é", 30_000)
	properties := codec.AppendProperties(nil, &codec.Properties{
		Present:      codec.PropertySet(0).With(codec.PropReasonString),
		ReasonString: long, User: slices.Repeat([]codec.UserProperty{{Key: "k", Value: "v"}}, 10_000),
	})
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		p := s.ExpectPacket()
		body := append([]byte{p[5], p[6], 0x97}, properties...)
		s.SendBytes(append(codec.AppendVarint([]byte{0x40}, len(body)), body...))
		err, ok := errors.AsType[*mqtt.ReasonError](f.Wait(t.Context()))
		if !ok || len(err.Reason) != 2048 || !strings.HasPrefix(long, err.Reason) || !err.UserCut || len(err.User) < 50 || len(err.User) > 150 {
			t.Fatalf("got %d bytes and %d user properties, cut %v", len(err.Reason), len(err.User), err.UserCut)
		}
		if r := f.Result(); r.Reason != err.Reason || len(r.User) != len(err.User) || !r.UserCut {
			t.Errorf("the result has %d bytes and %d user properties, cut %v", len(r.Reason), len(r.User), r.UserCut)
		}
	})
}

// Hundreds of Connected events that are not read take some KiB each.
func TestConnectedEventsThatAreNotReadTakeLittle(t *testing.T) {
	properties := codec.AppendProperties(nil, &codec.Properties{
		Present:      codec.PropertySet(0).With(codec.PropReasonString).With(codec.PropResponseInformation).With(codec.PropServerReference),
		ReasonString: strings.Repeat("r", 60_000), ResponseInfo: strings.Repeat("i", 60_000), ServerReference: strings.Repeat("s", 60_000),
		User: slices.Repeat([]codec.UserProperty{{}}, 100_000),
	})
	body := append([]byte{0, 0}, properties...)
	huge := fmt.Sprintf("%x", append(codec.AppendVarint([]byte{0x20}, len(body)), body...))
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, huge)
		events := s.conn.Watch(t.Context())
		heap := func() int {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		links := 100
		if testing.Short() {
			links = 10
		}
		before := heap()
		for range links {
			s.recut(huge)
		}
		if held := heap() - before; held > links*16<<10 {
			t.Errorf("%d KiB for each Connected", held/links>>10)
		}
		e := nextEvent[mqtt.Connected](t, events)
		if p := e.Connack.Props; len(p.ReasonString) != 2048 || p.ResponseInfo != "" || p.Has(codec.PropResponseInformation) || !p.UserCut || len(p.User) != 128 {
			t.Errorf("%d bytes of Reason String, %d of Response Information, %d user properties", len(p.ReasonString), len(p.ResponseInfo), len(p.User))
		}
	})
}
