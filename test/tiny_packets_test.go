package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// A server may announce a Maximum Packet Size below what the protocol makes a client
// send: nothing larger is written, and the link ends with an error that says so
// [MQTT-3.2.2-15].

// noRoomFor expects the end of the link, unsaid, for a packet of that size.
func (s *scripted) noRoomFor(packet string, size, limit int) {
	s.t.Helper()
	if rest := s.Rest(); len(rest) > 0 {
		s.t.Errorf("% X was written", rest)
	}
	err := await[mqtt.Disconnected](s.t, s.conn.Events()).Err
	tooLarge(s.t, err, size, limit)
	if !containsText(err, packet) || !containsText(err, "Maximum Packet Size") {
		s.t.Errorf("%v does not name %s and the server's limit", err, packet)
	}
}

func TestAcksStayWithinTheServersMaximumPacketSize(t *testing.T) {
	for _, c := range []struct {
		name, send, ack string
	}{
		{"PUBACK", "32 06 0001 74 0001 00", "40 02 0001"},
		{"PUBREC", "34 06 0001 74 0001 00", "50 02 0001"},
		{"PUBREL", "50 02 0007", "62 02 0007"},
		{"PUBCOMP", "62 02 0007", "70 02 0007"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for limit := 1; limit <= 3; limit++ {
				synctest.Test(t, func(t *testing.T) {
					s := scriptWith(t, mqtt.V5, connackMaxPacket(false, limit))
					s.Send(c.send)
					s.noRoomFor(c.name, 4, limit) // 0x92 of the last two is left out first
				})
			}
			synctest.Test(t, func(t *testing.T) {
				s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 4))
				s.Send(c.send)
				s.Expect(c.ack)
				s.ExpectNothing(time.Minute)
			})
		})
	}
	t.Run("QoS 0 needs none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 1))
			s.Send("30 04 0001 74 00")
			s.ExpectNothing(time.Minute)
		})
	})
}

// What is delivered is acknowledged as far as the limit allows: 0x92 stays where
// there is room for it.
func TestPacketIdentifierNotFoundIsSaidWhereItFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 5))
		s.Send("62 02 0007")
		s.Expect("70 03 0007 92")
		s.Send("50 02 0007")
		s.Expect("62 03 0007 92")
	})
}

func TestPingsAndLastWordsStayWithinTheServersMaximumPacketSize(t *testing.T) {
	t.Run("PINGREQ", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 1), mqtt.WithKeepAlive(10*time.Second))
			s.noRoomFor("PINGREQ", 2, 1)
		})
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 2), mqtt.WithKeepAlive(10*time.Second))
			s.Expect("C0 00")
		})
	})
	t.Run("DISCONNECT of a protocol error", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 2))
			s.Send("C0 00") // not a server's packet
			s.ExpectEOF()   // 3 bytes do not fit, and 2 would say that all is well
		})
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 3))
			s.Send("C0 00")
			s.Expect("E0 01 82")
			s.ExpectEOF()
		})
	})
	t.Run("DISCONNECT of the application", func(t *testing.T) {
		for limit, want := range map[int]string{1: "", 2: "", 3: "E0 01 04"} {
			synctest.Test(t, func(t *testing.T) {
				s := scriptWith(t, mqtt.V5, connackMaxPacket(false, limit))
				go s.conn.Disconnect(t.Context(), mqtt.WithReason(0x04))
				if want != "" {
					s.Expect(want)
				}
				s.ExpectEOF()
				s.Close()
				<-s.conn.Done()
			})
		}
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 2))
			go s.conn.Close()
			s.Expect("E0 00")
			s.ExpectEOF()
		})
	})
	t.Run("requests", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := scriptWith(t, mqtt.V5, connackMaxPacket(false, 3))
			wantErr(t, "Publish", s.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrPacketTooLarge)
			_, err := s.conn.Subscribe(t.Context(), "t")
			wantErr(t, "Subscribe", err, mqtt.ErrPacketTooLarge)
			_, err = s.conn.Unsubscribe(t.Context(), "t")
			wantErr(t, "Unsubscribe", err, mqtt.ErrPacketTooLarge)
			s.ExpectNothing(time.Minute)
		})
	})
}
