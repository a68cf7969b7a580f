package mqtt_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
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

// [MQTT-3.3.4-9], B10: a server that goes beyond our Receive Maximum on every link
// gets through with its messages, two more on each: what was acknowledged leaves
// before DISCONNECT 0x93, and such links end nothing.
func TestB10_OverrunningServerGetsOn(t *testing.T) {
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
				s.sendAck(0x62, id)
				s.ExpectBytes(rawAck(0x70, id))
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

// B10: an overrun that brings nothing further, link after link, ends the Conn.
func TestB10_OverrunWithoutProgressEndsTheConn(t *testing.T) {
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
