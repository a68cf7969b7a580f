package mqtt_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// Nothing is on the wire before what it depends on is durable; message and
// packet identifier are one batch.
func TestDurableBeforeWritten(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		s.hold()
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 2})
		s.ExpectNothing(30 * time.Second)
		if f.Stage() != mqtt.StageQueued {
			t.Errorf("stage %v", f.Stage())
		}
		s.letGo() // one commit: message and identifier
		s.expectPublish(0x34, 1, "t", "x")
		s.sendAck(0x50, 1)
		s.ExpectNothing(30 * time.Second)
		s.sendAck(0x50, 1) // again: still nothing
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x62, 1))
		s.sendAck(0x70, 1)
		succeeded(t, f)
		s.letGo()
	})
}

// PUBREC waits for the identifier's record, PUBCOMP for its deletion.
func TestInboundDurableBeforeAnswered(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		c := s.subscribed("t", 2).C()
		s.hold()
		s.message(0x34, 9, "t", "x")
		s.message(0x34, 10, "t", "y")
		expect(t, c, "x", "y")
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x50, 9)) // in the order of arrival [MQTT-4.6.0-3]
		s.letGo()
		s.ExpectBytes(rawAck(0x50, 10))
		s.sendAck(0x62, 9)
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x70, 9))
		s.open()
		s.release(10)
		s.closeEmpty(d)
	})
}

// A store that hangs stops nothing that does not need it.
func TestHangingStoreStopsNothingElse(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		p := newDisk().process(network)
		conn := p.connect(t, v, mqtt.WithKeepAlive(5*time.Second))
		if err := conn.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := &storedScript{&scripted{t: t}, p}
		s.hold()
		f := conn.Publish(t.Context(), mqtt.Message{Topic: "x", QoS: 1})
		sub := subscribe(t, conn, "t")
		for i := range 10 {
			succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: "q0"}))
			text := strconv.Itoa(i)
			if err := srv.Publish("t", []byte(text), byte(i%2), false); err != nil {
				t.Fatal(err)
			}
			expect(t, sub.C(), text)
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
		pending(t, f)
		if info, _ := srv.Session("c"); info.Open != 0 {
			t.Errorf("%d messages are not acknowledged", info.Open)
		}
		if n := srv.Stats().Packets[codec.PINGREQ]; n < 3 {
			t.Errorf("%d pings", n)
		}
		s.open()
		succeeded(t, f)
		if network.Dials() != 1 {
			t.Errorf("%d connections", network.Dials())
		}
		conn.Close()
		srv.Close()
	})
}

// Publishes that come while a commit is in progress share the next one.
func TestCommitsAreShared(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		p := newDisk().process(network)
		conn := p.connect(t, v)
		if err := conn.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		commits := 0
		p.seen = func([]store.Op) { commits++; time.Sleep(10 * time.Millisecond) }
		for range 1000 {
			conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		}
		flush(t, conn)
		conn.Close()
		srv.Close()
		if commits > 60 {
			t.Errorf("%d commits for 1,000 messages", commits)
		}
		t.Logf("%d commits", commits)
	})
}

// A packet identifier is free once its exchange ends, and goes to another
// only after its record; the batches tell.
func TestIdentifierDeletedBeforeGivenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		p := newDisk().process(network)
		conn := p.connect(t, mqtt.V5)
		held := map[uint16]uint64{} // key by identifier
		p.seen = func(ops []store.Op) {
			for _, op := range ops {
				if op.Key.Kind != store.Exchange {
					continue
				}
				if op.Delete {
					for id, key := range held {
						if key == op.Key.Seq {
							delete(held, id)
						}
					}
					continue
				}
				id := uint16(op.Head[3])<<8 | uint16(op.Head[4])
				if was, taken := held[id]; taken && was != op.Key.Seq {
					t.Errorf("identifier %d of %d given to %d", id, was, op.Key.Seq)
				}
				held[id] = op.Key.Seq
			}
		}
		for i := range 70_000 {
			conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: mqtt.QoS(1 + i%2)})
		}
		flush(t, conn)
		conn.Close()
		srv.Close()
		if len(held) > 0 {
			t.Errorf("%d identifiers left", len(held))
		}
	})
}

// [MQTT-4.4.0-1]: a "released" that becomes durable only on the next link sends
// its PUBREL there once, after those before it and not before.
func TestReleasedDurableOnTheNextLink(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		for id := range uint16(2) {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 2})
			s.expectPublish(0x34, id+1, "t", "")
		}
		s.hold()
		s.sendAck(0x50, 2)
		s.sendAck(0x50, 1)
		s.recut(connack(v, true))
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x62, 2))
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x62, 1))
		s.ExpectNothing(30 * time.Second)
	})
}
