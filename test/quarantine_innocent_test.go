package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// leftBehind is a process that goes on with one message of QoS 1 of another one.
func leftBehind(t *testing.T, v mqtt.Version) *storedScript {
	t.Helper()
	d := newDisk()
	s := d.script(t, v, false)
	s.conn.Publish(t.Context(), keyed("k", 1))
	s.expectPublish(0x32, 1, "t", "k")
	s.crash()
	return d.script(t, v, true)
}

// A network that cuts links while they are young sets no message aside, not
// even the only one there is: a link that dies before it carries it clears it.
func TestCutsSetNoInnocentAside(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := leftBehind(t, v)
		f := s.conn.Lookup("k")
		for n := range 30 {
			time.Sleep(time.Duration(n%10) * 90 * time.Millisecond)
			s.Cut()
			s.next(connack(v, true))
		}
		s.ExpectPacket()
		pending(t, f)
		s.sendAck(0x40, 1)
		succeeded(t, f)
		if evs := told[mqtt.PublishSetAside](s.conn); len(evs) > 0 {
			t.Errorf("set aside: %+v", evs)
		}
	})
}

// A server that says why it ends links, for reasons of its own, accuses no message.
func TestServersOwnReasonsAccuseNoMessage(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		if v != mqtt.V5 {
			return // 3.x says nothing
		}
		s := leftBehind(t, v)
		f := s.conn.Lookup("k")
		for range 20 {
			time.Sleep(1100 * time.Millisecond)
			s.ExpectPacket()
			s.Send("E0 01 8B") // server shutting down
			s.next(connack(v, true))
		}
		time.Sleep(2 * time.Second)
		s.ExpectPacket()
		s.sendAck(0x40, 1)
		succeeded(t, f)
	})
}

// A message of an earlier process that is set aside, whose Future no
// caller holds, is named by events, with the reason.
func TestRestoredMessageSetAsideIsReported(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := leftBehind(t, v)
		for link := range 5 {
			if link > 0 {
				s.next(connack(v, true))
			}
			if link >= 2 {
				s.ExpectNothing(990 * time.Millisecond) // it probes
			}
			s.expectPublish(0x3A, 1, "t", "k")
			if v == mqtt.V5 {
				s.Send("E0 01 99")
				synctest.Wait()
			}
			s.Cut()
		}
		s.next(connack(v, true))
		s.ExpectNothing(time.Minute)
		var aside *mqtt.PublishSetAside
		var dropped *mqtt.MessageDropped
		for range len(s.conn.Events()) {
			switch ev := (<-s.conn.Events()).(type) {
			case mqtt.PublishSetAside:
				aside = &ev
			case mqtt.MessageDropped:
				dropped = &ev
			}
		}
		if aside == nil || aside.Topic != "t" || aside.Key != "k" || aside.PacketID != 1 || aside.Err == nil {
			t.Errorf("%+v", aside)
		} else if e, ok := errors.AsType[*mqtt.ReasonError](aside.Err); v == mqtt.V5 && (!ok || e.Code != codec.PayloadFormatInvalid) {
			t.Errorf("reason %v", aside.Err)
		}
		if dropped == nil || dropped.Topic != "t" || dropped.Key != "k" || !errors.Is(dropped.Err, mqtt.ErrSetAside) {
			t.Errorf("%+v", dropped)
		}
	})
}

// What has its identifier stored and was never written is a suspect as well.
func TestStoredSuspectsAreProbedOneByOne(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		s.hold()
		for _, key := range []string{"a", "b"} {
			s.conn.Publish(t.Context(), keyed(key, 1))
			synctest.Wait()
		}
		for range 2 { // links that die young
			s.Cut()
			s.next(connack(v, true))
		}
		s.open()
		s.ExpectNothing(990 * time.Millisecond) // it probes
		s.expectPublish(0x32, 1, "t", "a")
		s.ExpectNothing(time.Minute)
		s.sendAck(0x40, 1)
		s.expectPublish(0x32, 2, "t", "b")
	})
}

// A message that was set aside is so for later processes too: it is never sent
// again, and its identifier stays taken until the session is lost.
func TestSetAsideOverARestart(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		f := s.conn.Publish(t.Context(), keyed("k", 1))
		for range 5 { // two young links, then three that probe
			pending(t, f)
			s.ExpectPacket()
			s.Cut()
			s.next(connack(v, true))
		}
		wantErr(t, "the Future", outcome(t, f), mqtt.ErrSetAside)
		s.crash()
		for range 2 {
			s = d.script(t, v, true)
			s.ExpectNothing(time.Minute)
			if s.conn.Lookup("k") != nil {
				t.Error("it is in flight")
			}
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, 2, "t", "")
			s.sendAck(0x40, 2)
			flush(t, s.conn)
			s.crash()
		}
		s = d.script(t, v, false)
		s.closeEmpty(d)
	})
}
