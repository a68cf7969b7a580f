package mqtt_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// [MQTT-2.2.1-3]: PUBLISH, SUBSCRIBE and UNSUBSCRIBE share one counter that
// goes on instead of going back to what is free, and skips 0.
func TestIdentifiersComeFromOneRotatingCounter(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		for id := uint16(1); id <= 3; id++ {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, id, "t", "")
			s.sendAck(0x40, id)
		}
		s.conn.Subscribe(t.Context(), "f", mqtt.WithoutWaiting())
		if p := s.ExpectPacket(); p[0] != 0x82 || p[3] != 4 {
			t.Errorf("% X", p)
		}
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 5, "t", "")
		go s.conn.Unsubscribe(t.Context(), "g")
		if p := s.ExpectPacket(); p[0] != 0xA2 || p[3] != 6 {
			t.Errorf("% X", p)
		}
	})
}

// With all 65,535 identifiers open the next publish and SUBSCRIBE wait, and
// get one as soon as one acknowledgement comes.
func TestAllIdentifiersTakenMakePublishWait(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(65535), mqtt.WithQueue(-1, -1, mqtt.QueueWait))
		for id := uint16(1); id != 0; id++ {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, id, "t", "")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		if err := f.Wait(ctx); err != context.DeadlineExceeded {
			t.Fatalf("%v", err) // gave up: the exchange goes on
		}
		s.ExpectNothing(time.Minute)
		s.sendAck(0x40, 777)
		s.expectPublish(0x32, 777, "t", "")
		s.conn.Subscribe(t.Context(), "f", mqtt.WithoutWaiting(), mqtt.QoS(0))
		s.ExpectNothing(time.Second)
		s.sendAck(0x40, 40000)
		if p := s.ExpectPacket(); p[0] != 0x82 || p[2] != 40000>>8 || p[3] != 40000&0xFF {
			t.Errorf("% X", p)
		}
		s.sendAck(0x40, 777)
		succeeded(t, f)
	})
}

// A mix of PUBLISH, SUBSCRIBE and UNSUBSCRIBE against a server that acknowledges
// late and in random order; the server's own checks find an identifier that is taken
// twice, or 0.
func TestIdentifiersInARandomMix(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		rng := chance.Rand(t) // the server acknowledges in one goroutine
		conn, srv, _ := serve(t, v, server.Config{OnAck: func(server.Ack) server.Fate {
			return server.Fate{Delay: time.Duration(rng.IntN(500)) * time.Millisecond}
		}}, mqtt.WithMaxInflight(1000), mqtt.WithQueue(2000, 0, mqtt.QueueWait))
		var subs []*mqtt.Subscription
		for i := range chance.Rounds(10_000, 1_000_000) {
			switch i % 50 {
			case 10:
				s, err := conn.Subscribe(t.Context(), fmt.Sprintf("f/%d", i), mqtt.WithoutWaiting())
				if err != nil {
					t.Fatal(err)
				}
				subs = append(subs, s)
			case 30:
				if len(subs) > 4 {
					go subs[0].Unsubscribe(t.Context())
					subs = subs[1:]
				}
			default:
				conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(i % 3)})
			}
		}
		flush(t, conn)
		synctest.Wait()
		var last uint16
		for _, r := range srv.Received() {
			if r.QoS == 0 {
				continue
			}
			if gap := r.PacketID - last; last != 0 && (gap == 0 || gap > 1000) {
				t.Fatalf("packet id %d after %d", r.PacketID, last)
			}
			last = r.PacketID
		}
		if s := conn.Stats(); s.Inflight != 0 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
	})
}
