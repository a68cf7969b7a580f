package mqtt_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// What an earlier process stored and the server of this one cannot take is
// taken out and told, and the next one is sent at once; of what was written before
// the identifier stays taken.
func TestStoredMessageThatTheServerCannotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := d.script(t, mqtt.V5, false)
		large := mqtt.Message{Topic: "large", Payload: []byte(strings.Repeat("x", 100)), QoS: 1}
		s.conn.Publish(t.Context(), large)
		s.ExpectPacket()
		s.offline()
		var last *mqtt.Future
		for _, m := range []mqtt.Message{
			large, {Topic: "QoS", QoS: 2}, {Topic: "retain", QoS: 1, Retain: true}, {Topic: "fine", QoS: 1},
		} {
			last = s.conn.Publish(t.Context(), m)
		}
		if err := last.WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.crash()
		x := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour), mqtt.WithStore(d.mem))
		w := x.up("20 0C 01 00 09 27 00000032 24 01 25 00") // Maximum Packet Size 50, Maximum QoS 1, no retaining
		p := w.ExpectPacket()
		if p[0] != 0x32 || string(p[4:8]) != "fine" {
			t.Errorf("sent % X", p)
		}
		evs := told[mqtt.MessageDropped](x.conn)
		for i, want := range []error{mqtt.ErrPacketTooLarge, mqtt.ErrPacketTooLarge, mqtt.ErrNotSupported, mqtt.ErrNotSupported} {
			if len(evs) != 4 || !errors.Is(evs[i].Err, want) {
				t.Fatalf("event %d of %+v, want %v", i, evs, want)
			}
		}
		w.SendBytes(rawAck(0x40, uint16(p[9])))
		flush(t, x.conn)
		x.conn.Abort()
		if left := d.kinds(t); left[store.Exchange] != 1 || len(left) != 1 {
			t.Errorf("left in the store: %v, want the identifier of what was written", left)
		}
		d.script(t, mqtt.V5, true).ExpectNothing(time.Minute)
	})
}
