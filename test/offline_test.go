package mqtt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What is published offline, more than memory is to hold, arrives in order after a
// restart; no payload is in memory twice.
func TestOfflinePublishesBeyondMemoryArrive(t *testing.T) {
	n := chance.Amount(20_000, 200_000)
	const size = 256
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		network.RefuseDials(-1, nil)
		d := newDisk()
		opts := []mqtt.ConnectOption{mqtt.WithStoreMemory(64 << 10), mqtt.WithQueue(n, 1<<30, mqtt.QueueFail)}
		conn := d.process(network).connect(t, mqtt.V5, opts...)
		before := heap()
		var last *mqtt.Future
		for i := range n {
			payload := binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(i))[:size]
			last = conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: payload, QoS: mqtt.QoS(1 + i%2)})
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		if err := last.WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The store of this test is memory too: one payload each, its head and map entry.
		each := int(heap()-before) / n
		t.Logf("%d bytes for each message, of which %d payload in the store", each, size)
		if each > 900 {
			t.Errorf("%d bytes for each message", each)
		}
		conn.Abort()
		conn = d.process(network).connect(t, mqtt.V5, opts...)
		each = int(heap()-before) / n
		t.Logf("%d bytes after the restart", each)
		if each > 1000 {
			t.Errorf("%d bytes for each message after the restart", each)
		}
		network.RefuseDials(0, nil)
		srv := server.Start(network, server.Config{LogEntries: 2 * n, LogBytes: 1 << 30})
		flush(t, conn)
		received := srv.Received()
		if len(received) != n {
			t.Errorf("%d of %d arrived", len(received), n)
		}
		for i, r := range received {
			if got := binary.BigEndian.Uint32(r.Payload); got != uint32(i) || len(r.Payload) != size {
				t.Fatalf("%d arrived instead of %d", got, i)
			}
		}
		conn.Close()
		srv.Close()
		checkEmpty(t, d)
	})
}

// [MQTT-3.3.2-6]: the expiry runs on while a message waits, over a restart; what
// expired unsent is dropped, what was sent is sent again.
func TestExpiryOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		message := func(key string, expiry time.Duration) mqtt.Message {
			m := keyed(key, 1)
			m.Properties.Expiry = expiry
			return m
		}
		expiring := func(id byte, head byte, key byte, seconds byte) []byte {
			return []byte{head, 12, 0, 1, 't', 0, id, 5, 2, 0, 0, 0, seconds, key}
		}
		d := newDisk()
		s := d.script(t, mqtt.V5, false)
		s.conn.Publish(t.Context(), message("s", 3*time.Second)) // sent before it expires
		s.ExpectBytes(expiring(1, 0x32, 's', 3))
		s.offline()
		s.conn.Publish(t.Context(), message("e", 20*time.Second)) // while no process is there
		s.conn.Publish(t.Context(), message("l", 100*time.Second))
		time.Sleep(15 * time.Second)
		s.crash()
		time.Sleep(15 * time.Second)
		s = d.script(t, mqtt.V5, true)
		s.ExpectBytes(expiring(1, 0x3A, 's', 1)) // never below 1
		s.ExpectBytes(expiring(3, 0x32, 'l', 70))
		evs := told[mqtt.MessageDropped](s.conn)
		if len(evs) != 1 || !errors.Is(evs[0].Err, mqtt.ErrExpired) {
			t.Errorf("events %+v", evs)
		}
		s.sendAck(0x40, 1)
		s.sendAck(0x40, 3)
		s.closeEmpty(d)
	})
}

// A key finds its message over restarts, until that is through; a second one with
// the key is refused.
func TestLookupOverRestarts(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		f := s.conn.Publish(t.Context(), keyed("k", 2))
		if err := s.conn.Publish(t.Context(), keyed("k", 1)).Err(); !errors.Is(err, mqtt.ErrKeyInUse) {
			t.Errorf("second: %v", err)
		}
		s.expectPublish(0x34, 1, "t", "k")
		s.conn.Abort()
		if p, ok := errors.AsType[*mqtt.PublishError](f.Err()); !ok || !p.Kept || !p.MayHaveArrived {
			t.Errorf("kept: %v", f.Err())
		}
		for range 2 {
			s = d.script(t, v, true)
			s.expectPublish(0x3C, 1, "t", "k")
			if f = s.conn.Lookup("k"); f == nil || f.Stage() != mqtt.StageSent || f.WaitStored(t.Context()) != nil || f.PacketID() != 1 {
				t.Fatalf("Lookup: %+v", f)
			}
			if err := s.conn.Publish(t.Context(), keyed("k", 1)).Err(); !errors.Is(err, mqtt.ErrKeyInUse) {
				t.Errorf("second: %v", err)
			}
			if f.Cancel() {
				t.Error("cancelled, though sent")
			}
			if s.conn.Lookup("other") != nil {
				t.Error("found a stranger")
			}
			s.crash()
		}
		s = d.script(t, v, true)
		f = s.conn.Lookup("k")
		s.expectPublish(0x3C, 1, "t", "k")
		s.finishPublish(2, 1)
		succeeded(t, f)
		if s.conn.Lookup("k") != nil {
			t.Error("found after it was through")
		}
		s.closeEmpty(d)
	})
}

// The store's limits take the place of the queue's; what a policy drops or
// the application cancels is gone from the store.
func TestStoreLimits(t *testing.T) {
	for policy, want := range map[mqtt.QueuePolicy]error{
		mqtt.QueueFail: mqtt.ErrQueueFull, mqtt.QueueDropNewest: mqtt.ErrDropped, mqtt.QueueDropOldest: nil, mqtt.QueueWait: nil,
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDisk()
			d.mem.Limits = store.Limits{Messages: 3, Bytes: 1 << 20}
			s := d.script(t, mqtt.V5, false, mqtt.WithQueue(1000, 1<<20, policy))
			s.offline()
			var fs []*mqtt.Future
			for _, key := range []string{"a", "b", "c"} {
				fs = append(fs, s.conn.Publish(t.Context(), keyed(key, 1)))
			}
			synctest.Wait()
			if policy == mqtt.QueueWait {
				go func() { time.Sleep(time.Second); fs[0].Cancel() }()
			}
			f := s.conn.Publish(t.Context(), keyed("d", 1))
			err := f.WaitStored(t.Context())
			if !errors.Is(err, want) {
				t.Errorf("%v: %v, want %v", policy, err, want)
			}
			synctest.Wait() // that "d" is stored says nothing of a's Future
			kept := "abc"
			if want == nil {
				kept = "bcd"
			}
			if policy == mqtt.QueueDropOldest && !errors.Is(fs[0].Err(), mqtt.ErrDropped) {
				t.Errorf("the oldest: %v", fs[0].Err())
			}
			large := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1, Payload: bytes.Repeat([]byte("x"), 1<<20)})
			if _, ok := errors.AsType[*mqtt.PacketTooLargeError](large.Err()); !ok {
				t.Errorf("larger than the store: %v", large.Err())
			}
			s.crash()
			s = d.script(t, mqtt.V5, true)
			for i, key := range kept {
				s.expectPublish(0x32, uint16(i+1), "t", string(key))
			}
			s.ExpectNothing(time.Minute)
		})
	}
}

// A message counts in the queue for what it takes in the store, also after a
// restart, so that what the queue takes never finds the store full.
func TestQueueCountsStoredSizes(t *testing.T) {
	for name, of := range map[string]func(size int64) store.Limits{
		"messages": func(int64) store.Limits { return store.Limits{Messages: 3} },
		"bytes":    func(size int64) store.Limits { return store.Limits{Bytes: 4*size - 1} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, s, _ := stored(t, mqtt.V5)
				s.crash()
				_, value := d.value(t, store.Outgoing, 0)
				d = newDisk()
				d.mem.Limits = of(int64(len(value)))
				queue := mqtt.WithQueue(1000, 1<<20, mqtt.QueueFail)
				publish := func(key string, want error) {
					t.Helper()
					if err := s.conn.Publish(t.Context(), keyed(key, 1)).WaitStored(t.Context()); !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", key, err, want)
					}
				}
				s = d.script(t, mqtt.V5, false, queue)
				s.offline()
				publish("a", nil)
				publish("b", nil)
				publish("c", nil)
				publish("d", mqtt.ErrQueueFull)
				s.crash()
				s = d.script(t, mqtt.V5, true, queue)
				publish("d", mqtt.ErrQueueFull)
				s.expectPublish(0x32, 1, "t", "a")
				s.sendAck(0x40, 1)
				publish("d", nil)
				publish("e", mqtt.ErrQueueFull)
			})
		})
	}
}

// A publish before the first link takes neither a number nor an identifier of
// what is in the store, and comes behind it.
func TestPublishedBeforeTheFirstLink(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := written(t, v)
		before := d.records(t)
		x := dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour), mqtt.WithStore(d.mem))
		if err := x.conn.Publish(t.Context(), keyed("new", 1)).WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := x.up(connack(v, true))
		w.ExpectBytes(rawAck(0x62, 4))
		w.ExpectBytes(rawPublish(v, 0x3A, 1, "t", "a"))
		w.ExpectBytes(rawPublish(v, 0x3C, 2, "t", "b"))
		w.ExpectBytes(rawPublish(v, 0x3A, 3, "t", "c"))
		w.ExpectBytes(rawPublish(v, 0x32, 5, "t", "new"))
		x.conn.Abort()
		checkNotOverwritten(t, d, before)
	})
}
