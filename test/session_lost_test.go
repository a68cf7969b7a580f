package mqtt_test

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/mqtt"
)

// [MQTT-3.2.2-5] [MQTT-3.1.2-4]: when the server lost the session, QoS 1 in flight
// is published anew with a new identifier and DUP 0, in its order before the queue;
// QoS 2 fails; nothing of the old session is sent.
func TestSessionLost(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		// 3.1 cannot tell a lost session of a durable Conn: there it is the clean one's.
		var opts []mqtt.ConnectOption
		if v != mqtt.V31 {
			opts = append(opts, mqtt.WithSession(time.Hour))
		}
		s := script(t, v, append(opts, mqtt.WithMaxInflight(5))...)
		var fs []*mqtt.Future
		for i, qos := range []mqtt.QoS{1, 2, 1, 2, 1 /* queued: */, 2, 1} {
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte{'a' + byte(i)}, QoS: qos})
			fs = append(fs, f)
			if i < 5 {
				s.expectPublish(0x30|byte(qos)<<1, uint16(i+1), "t", string(rune('a'+i)))
			}
		}
		s.sendAck(0x50, 2)
		s.ExpectBytes(rawAck(0x62, 2))
		s.recut(connack(v, false))
		s.expectPublish(0x32, 6, "t", "a")
		s.expectPublish(0x32, 7, "t", "c")
		s.expectPublish(0x32, 8, "t", "e")
		s.expectPublish(0x34, 9, "t", "f")
		s.expectPublish(0x32, 10, "t", "g")
		s.ExpectNothing(time.Minute)
		for _, i := range []int{1, 3} {
			err := fs[i].Err()
			if p, ok := errors.AsType[*mqtt.PublishError](err); !errors.Is(err, mqtt.ErrSessionLost) || !ok || !p.MayHaveArrived {
				t.Errorf("QoS 2 message %d: %v", i, err)
			}
		}
		s.sendAck(0x40, 1) // of the old session: nothing
		pending(t, fs[0])
		s.sendAck(0x40, 6)
		s.sendAck(0x40, 7)
		s.sendAck(0x40, 8)
		s.finishPublish(2, 9)
		s.sendAck(0x40, 10)
		for _, i := range []int{0, 2, 4, 5, 6} {
			succeeded(t, fs[i])
		}
	})
}

// WithSessionLost turns both rules around.
func TestSessionLostOptions(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSessionLost(mqtt.LostFail, mqtt.LostPublish))
		f1 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f2 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		f3 := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x32, 1, "t", "")
		s.expectPublish(0x34, 2, "t", "")
		s.expectPublish(0x34, 3, "t", "")
		s.sendAck(0x50, 3) // the server owns it: publishing it anew would double it for certain
		s.ExpectBytes(rawAck(0x62, 3))
		s.recut(connack(v, false))
		s.expectPublish(0x34, 4, "t", "")
		s.ExpectNothing(time.Minute)
		for _, f := range []*mqtt.Future{f1, f3} {
			if !errors.Is(f.Err(), mqtt.ErrSessionLost) {
				t.Errorf("%v", f.Err())
			}
		}
		s.finishPublish(2, 4)
		succeeded(t, f2)
	})
}

// The stage of a message that is published anew goes back to queued.
func TestStageOfAMessagePublishedAnew(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(2))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "b", QoS: 1})
		s.expectPublish(0x32, 1, "a", "")
		s.expectPublish(0x32, 2, "b", "")
		if f.Stage() != mqtt.StageSent || f.Cancel() {
			t.Errorf("stage %v, or taken back after it was sent", f.Stage())
		}
		time.Sleep(2 * time.Second)
		s.Cut()
		s.Wire = s.peer.Accept(t.Context())
		s.ExpectPacket()
		if v == mqtt.V5 {
			s.Send("20 06 00 00 03 21 0001")
			s.expectPublish(0x32, 3, "a", "")
			if f.Stage() != mqtt.StageQueued || f.PacketID() != 0 {
				t.Errorf("stage %v, packet id %d", f.Stage(), f.PacketID())
			}
			if f.Cancel() {
				t.Error("taken back, although the server may have it")
			}
			s.sendAck(0x40, 3)
			s.expectPublish(0x32, 4, "b", "")
			s.sendAck(0x40, 4)
			succeeded(t, f)
		} else {
			s.Send(connack(v, false))
			s.expectPublish(0x32, 3, "a", "")
			s.expectPublish(0x32, 4, "b", "")
		}
	})
}

// [MQTT-3.2.2-4]: a process with nothing of the session that the server resumes goes
// on, says so once, and begins with its packet identifiers anywhere, since answers
// to the former one may still come. One that has the session's store is not told.
func TestResumedWithoutLocalState(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		check := func(s *scripted, want int) {
			t.Helper()
			if evs := told[mqtt.SessionResumed](s.conn); len(evs) != want {
				t.Errorf("%d events, want %d", len(evs), want)
			}
		}
		ids := map[uint16]bool{}
		for range 8 {
			s := scriptWith(t, v, connack(v, true), mqtt.WithSession(time.Hour))
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, f.PacketID(), "t", "")
			ids[f.PacketID()] = true
			s.recut(connack(v, true))
			s.expectPublish(0x3A, f.PacketID(), "t", "")
			check(s, 1)
		}
		if len(ids) == 1 {
			t.Errorf("every process began with the identifier of %v", ids)
		}
		check(scriptWith(t, v, connack(v, false), mqtt.WithSession(time.Hour)), 0)
		d := newDisk()
		s := d.script(t, v, true) // the store is new
		check(s.scripted, 1)
		s.crash()
		check(d.script(t, v, true).scripted, 0)
	})
}
