package mqtt_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// failing makes the disk fail for the batches that which names.
func (p *process) failing(which func(ops []store.Op) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = func(ops []store.Op) error {
		if which(ops) {
			return syscall.ENOSPC
		}
		return nil
	}
}

func everything([]store.Op) bool { return true }
func none([]store.Op) bool       { return false }

// puts reports whether ops write a record of kind k.
func puts(ops []store.Op, k store.Kind) bool {
	for _, op := range ops {
		if op.Key.Kind == k && !op.Delete {
			return true
		}
	}
	return false
}

func newMessages(ops []store.Op) bool { return puts(ops, store.Outgoing) }

// A full disk fails the messages that it has no room for, and nothing else.
func TestFullDiskFailsOnlyNewMessages(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		s.offline()
		early := s.conn.Publish(t.Context(), keyed("early", 1))
		if err := early.WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.p.failing(newMessages)
		for range 50 {
			f := s.conn.Publish(t.Context(), keyed("x", 2))
			err := f.WaitStored(t.Context())
			p, _ := errors.AsType[*mqtt.PublishError](err)
			e, ok := errors.AsType[*mqtt.StoreError](err)
			if !errors.Is(err, syscall.ENOSPC) || !ok || e.Op != "write" || p == nil || p.Kept || p.MayHaveArrived || f.Err() != err {
				t.Fatalf("got %v, %v", err, f.Err())
			}
		}
		s.p.failing(none)
		late := s.conn.Publish(t.Context(), keyed("late", 1))
		evs := told[mqtt.StoreFailed](s.conn)
		if len(evs) != 50 || evs[49].Final || !errors.Is(evs[0].Err, syscall.ENOSPC) {
			t.Errorf("%d events", len(evs))
		}
		// The failures before end nothing when a note fails once.
		failed := false
		s.p.failing(func([]store.Op) bool { defer func() { failed = true }(); return !failed })
		s.net.RefuseDials(0, nil)
		s.next(connack(v, false))
		s.expectPublish(0x32, 1, "t", "early")
		s.expectPublish(0x32, 2, "t", "late")
		s.sendAck(0x40, 1)
		s.sendAck(0x40, 2)
		succeeded(t, early)
		succeeded(t, late)
		if !failed {
			t.Error("no note failed")
		}
		s.closeEmpty(d)
	})
}

// What must be noted of stored messages is tried again, with a rest; it
// goes on alone, so that new messages that find no room do not hold it up.
func TestStateOfStoredMessagesIsWrittenAgain(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		f := s.conn.Publish(t.Context(), keyed("x", 2))
		s.expectPublish(0x34, 1, "t", "x")
		s.p.failing(everything)
		s.sendAck(0x50, 1)
		s.ExpectNothing(1800 * time.Millisecond)
		evs := told[mqtt.StoreFailed](s.conn)
		if len(evs) != 4 {
			t.Errorf("%d events", len(evs))
		}
		for i := 1; i < len(evs); i++ {
			if rest := evs[i].Time.Sub(evs[i-1].Time); rest < 500*time.Millisecond {
				t.Errorf("tried again after %v", rest)
			}
		}
		s.p.failing(newMessages)
		for range 100 {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			time.Sleep(100 * time.Millisecond)
		}
		s.ExpectBytes(rawAck(0x62, 1))
		s.sendAck(0x70, 1)
		succeeded(t, f)
		if s.conn.Err() != nil {
			t.Errorf("the Conn ended: %v", s.conn.Err())
		}
		s.closeEmpty(d)
	})
}

// A store that fails for good ends the Conn with its error; what it holds stays.
func TestStoreThatFailsForGoodEndsTheConn(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		f := s.conn.Publish(t.Context(), keyed("x", 2))
		s.expectPublish(0x34, 1, "t", "x")
		s.p.failing(everything)
		s.sendAck(0x50, 1)
		select {
		case <-s.conn.Done():
		case <-time.After(time.Minute):
			t.Fatal("the Conn lives")
		}
		err := s.conn.Err()
		if _, ok := errors.AsType[*mqtt.StoreError](err); !ok || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the Conn ended with %v", err)
		}
		p, _ := errors.AsType[*mqtt.PublishError](f.Err())
		if p == nil || !p.Kept || !p.MayHaveArrived || !errors.Is(f.Err(), mqtt.ErrClosed) {
			t.Errorf("the Future: %v", f.Err())
		}
		evs := told[mqtt.StoreFailed](s.conn)
		if n := len(evs); n < 10 || n > 12 || evs[8].Final || !evs[9].Final {
			t.Errorf("%d events", n)
		}
		s = d.script(t, v, true)
		s.expectPublish(0x3C, 1, "t", "x")
	})
}

// [MQTT-4.8.0-2]: an inbound QoS 2 message whose identifier cannot be
// recorded is not answered; the link ends, and it is recorded when it comes again.
func TestInboundRecordFails(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
		c := s.subscribed("t", 2).C()
		innocent := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 2, "t", "")
		s.p.failing(everything)
		head := byte(0x34)
		for range 5 { // more often than it takes to suspect a message
			s.message(head, 9, "t", "x")
			s.Rest()
			head = 0x3C
			s.next(connack(v, true))
			s.expectPublish(0x3A, 2, "t", "")
		}
		s.p.failing(none)
		s.message(head, 9, "t", "x")
		s.ExpectBytes(rawAck(0x50, 9))
		s.p.failing(everything)
		s.sendAck(0x62, 9)
		s.ExpectNothing(1800 * time.Millisecond) // the link stays: nothing is wrong with the exchange
		s.p.failing(none)
		s.ExpectBytes(rawAck(0x70, 9))
		s.sendAck(0x40, 2)
		succeeded(t, innocent)
		expect(t, c, "x")
		idle(t, c)
		s.closeEmpty(d)
	})
}

// A store that does not open fails Connect before it dials; so does a
// session that another Conn has.
func TestStoreDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		d := newDisk()
		p := d.process(network)
		connect := func(id string, more ...mqtt.ConnectOption) (*mqtt.Conn, error) {
			return mqtt.Connect(t.Context(), "mqtt://server", append([]mqtt.ConnectOption{mqtt.WithClientID(id),
				mqtt.WithSession(time.Hour), mqtt.WithDialer(network.Dial), mqtt.WithStore(p)}, more...)...)
		}
		p.failing(everything)
		conn, err := connect("c", mqtt.WithFirstConnect(mqtt.FirstConnectBackground))
		e, ok := errors.AsType[*mqtt.StoreError](err)
		if conn != nil || !ok || e.Op != "load" || !errors.Is(err, syscall.ENOSPC) || network.Dials() != 0 {
			t.Errorf("%v, %v, %d dials", conn, err, network.Dials())
		}
		p.failing(none)
		if _, err := connect("c"); err == nil || network.Dials() != 1 {
			t.Fatalf("no listener: %v", err)
		}
		// The failed Connect let go of the session.
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		conn, err = connect("c")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		dials := network.Dials()
		_, err = connect("c")
		if e, ok := errors.AsType[*mqtt.StoreError](err); !ok || e.Op != "open" || !errors.Is(err, store.ErrInUse) || network.Dials() != dials {
			t.Errorf("second Conn: %v", err)
		}
		other, err := connect("d")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		// Two clients on one store keep apart.
		conn.Publish(t.Context(), keyed("k", 1))
		other.Publish(t.Context(), keyed("k", 1))
		flush(t, conn)
		flush(t, other)
		if n := len(srv.Received()); n != 2 {
			t.Errorf("%d messages arrived", n)
		}
	})
}

// A store without a session to keep is a mistake.
func TestStoreNeedsSession(t *testing.T) {
	for name, opts := range map[string][]mqtt.ConnectOption{
		"clean":           {mqtt.WithClientID("c")},
		"no client id":    {mqtt.WithSession(time.Hour)},
		"negative memory": {mqtt.WithClientID("c"), mqtt.WithSession(time.Hour), mqtt.WithStoreMemory(-1)},
	} {
		network := &server.Network{}
		_, err := mqtt.Connect(t.Context(), "mqtt://server", append(opts, mqtt.WithStore(store.NewMemory()), mqtt.WithDialer(network.Dial))...)
		if _, ok := errors.AsType[*mqtt.InvalidError](err); !ok || network.Dials() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is tried again of a failed batch says nothing about the inbound
// identifier that was in it: the PUBREC waits for a record of its own.
func TestInboundRecordFailsBesideAnotherWrite(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		c := s.subscribed("t", 2).C()
		s.conn.Publish(t.Context(), keyed("a", 2))
		s.expectPublish(0x34, 2, "t", "a")
		s.hold()
		s.conn.Publish(t.Context(), keyed("b", 1)) // a batch of its own
		synctest.Wait()
		s.message(0x34, 9, "t", "x")
		s.sendAck(0x50, 2) // a note in the batch of 9
		s.p.failing(func(ops []store.Op) bool { return puts(ops, store.Incoming) })
		s.open()
		expect(t, c, "x")
		s.next(connack(v, true)) // the link ended, the note went through
		s.ExpectBytes(rawAck(0x62, 2))
		s.expectPublish(0x3A, 3, "t", "b")
		s.p.failing(none)
		s.hold()
		s.message(0x3C, 9, "t", "x")
		s.ExpectNothing(30 * time.Second)
		s.letGo()
		s.ExpectBytes(rawAck(0x50, 9))
	})
}

// The limit is on failures in a row: a disk that fails now and then ends nothing.
func TestStoreFailuresFarApartEndNothing(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		for id := range uint16(20) {
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			s.expectPublish(0x32, id+1, "t", "")
			failed := false
			s.p.failing(func([]store.Op) bool { defer func() { failed = true }(); return !failed })
			s.sendAck(0x40, id+1) // its record is to be deleted
			succeeded(t, f)
			time.Sleep(time.Second)
			synctest.Wait()
			if !failed || s.conn.Err() != nil {
				t.Fatalf("after %d failures: %t, %v", id+1, failed, s.conn.Err())
			}
		}
	})
}
