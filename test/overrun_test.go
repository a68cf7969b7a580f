package mqtt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// overrun sends the messages from..to of QoS 2, which are more than the Receive
// Maximum of 2, in one piece.
func overrun(s *scripted, head byte, from, to int) {
	s.t.Helper()
	var b []byte
	for i := from; i <= to; i++ {
		b = append(b, rawPublish(mqtt.V5, head, uint16(i), "t", fmt.Sprint(i))...)
	}
	s.batch(b)
}

// [MQTT-3.3.4-9]: a server that goes beyond our Receive Maximum on every link
// gets through with its messages, two more on each: what was acknowledged leaves
// before DISCONNECT 0x93, and such links end nothing.
func TestOverrunningServerGetsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithReceiveMaximum(2))
		ch := s.subscribed("t", 2).C()
		const last = 16
		head := byte(0x34)
		for from := 1; from <= last; from += 2 {
			overrun(s, head, from, last+1) // the last one never gets its turn here
			expect(t, ch, numbers(from, from+1)...)
			s.ExpectBytes(rawAck(0x50, uint16(from)))
			s.ExpectBytes(rawAck(0x50, uint16(from+1)))
			s.Expect("E0 01 93")
			s.ExpectEOF()
			s.next(connack(mqtt.V5, true))
			for _, id := range []uint16{uint16(from), uint16(from + 1)} {
				s.release(id)
			}
			head = 0x3C
		}
		idle(t, ch)
		s.message(0x3C, last+1, "t", "x")
		s.ExpectBytes(rawAck(0x50, last+1))
		expect(t, ch, "x")
	})
}

// [MQTT-3.3.4-9]: what counts is what no acknowledgement was sent for: QoS 1 that
// the application has is acknowledged within the read that brings too much.
func TestReceiveMaximumCountsWhatIsNotAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithReceiveMaximum(2))
		a, b := s.subscribed("a", 1).C(), s.subscribed("b", 1).C()
		var packets []byte
		for i := range 6 { // a run of each has one message
			packets = append(packets, rawPublish(mqtt.V5, 0x32, uint16(i+1), string("ab"[i%2]), fmt.Sprint(i+1))...)
		}
		s.batch(packets)
		for i := range 6 {
			s.ExpectBytes(rawAck(0x40, uint16(i+1)))
		}
		expect(t, a, "1", "3", "5")
		expect(t, b, "2", "4", "6")
		s.ExpectNothing(time.Second)
	})
}

// An overrun that brings nothing further, link after link, ends the Conn.
func TestOverrunWithoutProgressEndsTheConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithReceiveMaximum(2))
		s.subscribed("t", 2, mqtt.WithManualAck())
		for link := range 3 {
			if link > 0 {
				s.next(connack(mqtt.V5, true))
			}
			overrun(s, 0x34, 1, 3)
			s.Expect("E0 01 93")
		}
		<-s.conn.Done()
		if p, ok := errors.AsType[*mqtt.ProtocolError](s.conn.Err()); !ok || p.Code != codec.ReceiveMaximumExceeded {
			t.Errorf("the Conn ended with %v", s.conn.Err())
		}
	})
}

// connectMaximum reads the Receive Maximum of a CONNECT on 5.0, 0 when it has none.
// Mosquitto does not take a missing one for 65,535, as section 3.1.2.11.3 wants it.
func connectMaximum(t *testing.T, packet []byte) int {
	t.Helper()
	var c codec.Connect
	if err := c.Decode(packet[2:]); err != nil {
		t.Fatal(err)
	}
	return int(c.Props.ReceiveMaximum)
}

// upAnnouncing takes the next connection and returns what its CONNECT announces.
func (s *scripted) upAnnouncing(ack string) int {
	s.t.Helper()
	s.Wire = s.peer.Accept(s.t.Context())
	packet := s.Handshake(ack)
	synctest.Wait()
	return connectMaximum(s.t, packet)
}

// A server that goes beyond the Receive Maximum that we announce by default gets
// 65,535 from then on, in a session that is kept and in a clean one, which begins anew.
func TestServerThatOverrunsTheDefaultIsAnnouncedTheMaximum(t *testing.T) {
	for _, present := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
			sub := s.subscribed("t", 2, mqtt.WithManualAck())
			overrun(s, 0x34, 1, 1025)
			s.Expect("E0 01 93")
			s.ExpectEOF()
			ev := await[mqtt.ReceiveMaximumExceeded](t, s.conn.Events())
			if ev.Server != "mqtt://server:1883" || ev.Announced != 1024 || ev.Next != 65535 || ev.Advice != "" {
				t.Errorf("%+v", ev)
			}
			if n := s.upAnnouncing(connack(mqtt.V5, present)); n != 65535 {
				t.Fatalf("the next CONNECT announced %d", n)
			}
			if !present {
				s.ExpectPacket() // SUBSCRIBE
				s.suback(0x90, 2, 2)
			}
			overrun(s, 0x34, 1026, 4000)
			s.ExpectNothing(time.Minute)
			if n := sub.Stats().Pending; n < 1024 {
				t.Errorf("%d messages wait", n)
			}
			s.recut(server.ConnackPresent)
			for _, ev := range drainEvents(s.conn.Events()) {
				if again, told := ev.(mqtt.ReceiveMaximumExceeded); told {
					t.Errorf("told again: %+v", again)
				}
			}
		})
	}
}

// A value of the user's stays, and the event, which comes once, says what helps.
func TestServerThatOverrunsASetReceiveMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithReceiveMaximum(2))
		s.subscribed("t", 2).C()
		events := s.conn.Events()
		var told []mqtt.ReceiveMaximumExceeded
		for link := range 4 {
			overrun(s, 0x34, 3*link+1, 3*link+3)
			s.Rest()
			if n := s.upAnnouncing(connack(mqtt.V5, true)); n != 2 {
				t.Errorf("CONNECT announced %d", n)
			}
			for _, ev := range drainEvents(events) {
				if e, ok := ev.(mqtt.ReceiveMaximumExceeded); ok {
					told = append(told, e)
				}
			}
		}
		if len(told) != 1 || told[0].Announced != 2 || told[0].Next != 2 || !strings.Contains(told[0].Advice, "WithReceiveMaximum") {
			t.Errorf("%+v", told)
		}
	})
}

// Another server of the list is announced the default as before.
func TestOnlyTheServerThatOverranIsAnnouncedTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour), mqtt.WithServers("mqtt://other"))
		s.subscribed("t", 2, mqtt.WithManualAck())
		drainEvents(s.conn.Events())
		overrun(s, 0x34, 1, 1025)
		s.Rest()
		want := map[string]int{"mqtt://server:1883": 65535, "mqtt://other:1883": 1024}
		for range 4 {
			at := await[mqtt.Connecting](t, s.conn.Events()).Server
			if n := s.upAnnouncing(server.ConnackBusy); want[at] != n {
				t.Errorf("%s was announced %d", at, n)
			}
		}
	})
}
