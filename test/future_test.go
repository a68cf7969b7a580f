package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// The stages of a QoS 2 publish, and the packet identifier that goes with them.
func TestStages(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(1))
		first := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		at := func(want mqtt.Stage, id uint16) {
			t.Helper()
			synctest.Wait()
			if f.Stage() != want || f.PacketID() != id || f.Result().PacketID != id {
				t.Errorf("stage %v, packet id %d, want %v, %d", f.Stage(), f.PacketID(), want, id)
			}
		}
		at(mqtt.StageQueued, 0)
		s.expectPublish(0x32, 1, "t", "")
		s.sendAck(0x40, 1)
		succeeded(t, first)
		at(mqtt.StageSent, 2)
		if f.Cancel() {
			t.Error("taken back after it was sent")
		}
		s.expectPublish(0x34, 2, "t", "")
		s.sendAck(0x50, 2)
		at(mqtt.StageReceived, 2)
		s.ExpectBytes(rawAck(0x62, 2))
		s.sendAck(0x70, 2)
		at(mqtt.StageDone, 2)
		if f.Cancel() {
			t.Error("taken back after it was done")
		}
	})
}

// A canceled message is never sent, spends no identifier, and what is behind it
// takes its place.
func TestCancel(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(1))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "b", QoS: 1})
		last := s.conn.Publish(t.Context(), mqtt.Message{Topic: "c", QoS: 1})
		if !f.Cancel() {
			t.Error("not taken back")
		}
		if err := outcome(t, f); !errors.Is(err, mqtt.ErrCanceled) {
			t.Errorf("%v", err)
		}
		s.expectPublish(0x32, 1, "a", "")
		s.sendAck(0x40, 1)
		s.expectPublish(0x32, 2, "c", "")
		s.sendAck(0x40, 2)
		succeeded(t, last)
	})
}

// Done is one channel, closed once the Future resolves, made before or after.
func TestDoneIsOneChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		g := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		done := f.Done()
		if done != f.Done() {
			t.Error("another channel")
		}
		s.sendAck(0x40, 1)
		s.sendAck(0x40, 2)
		<-done
		<-g.Done()
		if done, again := g.Done(), g.Done(); done != again {
			t.Error("another channel")
		}
	})
}

// WaitAll joins the errors of all, not only the first.
func TestWaitAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		fs := []*mqtt.Future{
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "#"}),
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1}),
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1}),
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}),
		}
		s.sendAck(0x40, 1)
		s.Send("40 03 0002 97")
		err := mqtt.WaitAll(t.Context(), fs...)
		_, refused := errors.AsType[*mqtt.ReasonError](err)
		if !errors.Is(err, mqtt.ErrInvalid) || !refused {
			t.Errorf("%v", err)
		}
		if err := mqtt.WaitAll(t.Context(), fs[1], fs[3]); err != nil {
			t.Errorf("%v", err)
		}
		if err := mqtt.WaitAll(t.Context()); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// QoS 0 while offline, when an option queues it: a Future of its own, which can
// be taken back; sent in order ahead of a full window.
func TestQoS0Queued(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithQueuedQoS0())
		s.net.RefuseDials(1, nil)
		s.Cut()
		synctest.Wait()
		var fs []*mqtt.Future
		for _, topic := range []string{"a", "b", "c"} {
			fs = append(fs, s.conn.Publish(t.Context(), mqtt.Message{Topic: topic}))
		}
		if fs[0] == fs[1] || !fs[1].Cancel() {
			t.Error("shared, or not taken back")
		}
		pending(t, fs[0])
		s.next(connack(v, false))
		s.expectPublish(0x30, 0, "a", "")
		s.expectPublish(0x30, 0, "c", "")
		succeeded(t, fs[0])
		succeeded(t, fs[2])
		if !errors.Is(fs[1].Err(), mqtt.ErrCanceled) {
			t.Errorf("%v", fs[1].Err())
		}
	})
}

// Message expiry (section 3.3.2.3.3): the interval that is sent is what is left,
// never below 1; what was written once is sent again also when it is past; a QoS
// 2 exchange that has begun goes on [MQTT-4.3.3-7].
func TestMessageExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithMaxInflight(1))
		expiring := func(topic string, d time.Duration, qos mqtt.QoS) *mqtt.Future {
			return s.conn.Publish(t.Context(), mqtt.Message{Topic: topic, QoS: qos, Properties: &mqtt.Properties{Expiry: d}})
		}
		first := expiring("a", 5*time.Second, 2)
		late := expiring("b", 5*time.Second, 1)
		queued := expiring("c", 60*time.Second, 1)
		s.Expect("34 0B 0001 61 0001 05 02 00000005")
		time.Sleep(3 * time.Second)
		s.Cut()
		s.next("20 03 01 00 00") // 1 s later
		s.Expect("3C 0B 0001 61 0001 05 02 00000001")
		time.Sleep(10 * time.Second)
		s.Cut()
		s.next("20 03 01 00 00")
		s.Expect("3C 0B 0001 61 0001 05 02 00000001")
		s.finishPublish(2, 1)
		succeeded(t, first)
		if err := outcome(t, late); !errors.Is(err, mqtt.ErrExpired) {
			t.Errorf("%v", err)
		}
		s.Expect("32 0B 0001 63 0002 05 02 0000002D") // 60 - 15
		s.sendAck(0x40, 2)
		succeeded(t, queued)
	})
}
