package mqtt_test

import (
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// What a later version of this package wrote is left as it is by this one,
// and goes on when the later one is back: the message, its exchange, both.
func TestDowngradeLosesNothing(t *testing.T) {
	for name, kinds := range map[string][]store.Kind{
		"message": {store.Outgoing}, "exchange": {store.Exchange}, "both": {store.Outgoing, store.Exchange}, "all": {store.Meta, store.Outgoing, store.Exchange},
	} {
		t.Run(name, func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				d := written(t, v)
				format := func(n byte) {
					for _, k := range kinds {
						i := 2 // "c"
						if k == store.Meta {
							i = 0
						}
						if n == 1 && k != store.Meta {
							i = 0 // all that is left
						}
						key, value := d.value(t, k, i)
						value[0] = n
						d.put(t, k, key.Seq, value)
					}
				}
				format(2)
				s := d.script(t, v, true)
				expectResent(s, "dab")
				s.sendAck(0x70, 4)
				s.sendAck(0x40, 1)
				s.finishPublish(2, 2)
				f := s.conn.Publish(t.Context(), keyed("new", 1))
				s.expectPublish(0x32, 4, "t", "new") // free again; 3 is not
				s.sendAck(0x40, 4)
				succeeded(t, f)
				s.conn.Close()
				format(1)
				s = d.script(t, v, true)
				s.expectPublish(0x3A, 3, "t", "c")
				s.sendAck(0x40, 3)
				s.closeEmpty(d)
			})
		})
	}
}

// faulty is a store whose reads fail for as long as it says.
type faulty struct {
	store.Store
	err error

	mu    sync.Mutex
	fails int // reads; negative for ever
}

func (f *faulty) Session(id string) (store.Session, error) {
	s, err := f.Store.Session(id)
	return &faultySession{s, f}, err
}

type faultySession struct {
	store.Session
	f *faulty
}

func (s *faultySession) Read(keys []store.Key, visit func(int, []byte) error) error {
	if s.f.left() != 0 {
		s.f.mu.Lock()
		defer s.f.mu.Unlock()
		s.f.fails--
		return s.f.err
	}
	return s.Session.Read(keys, visit)
}

// left returns how many reads are still to fail.
func (f *faulty) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fails
}

// A payload that cannot be read now is read later, in its turn.
func TestPayloadReadFailsForAWhile(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s, _ := spilled(t, v, 3, syscall.EIO)
		s.expectPublish(0x32, 1, "t", "a")
		s.expectPublish(0x32, 2, "t", "b")
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) > 0 {
			t.Errorf("%+v", evs)
		}
	})
}

// A payload that cannot be read at all fails its Future, which says that the
// store keeps the message: a later process sends it.
func TestPayloadReadFailsForGood(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s, fs := spilled(t, v, -1, syscall.EIO)
		for _, f := range fs {
			p := keptError(t, f, syscall.EIO)
			e, ok := errors.AsType[*mqtt.StoreError](p)
			if !p.Kept || p.MayHaveArrived || !ok || e.Op != "read" {
				t.Errorf("%v", p)
			}
		}
		if evs := told[mqtt.StoreFailed](s.conn); len(evs) != 2 || evs[0].Final {
			t.Errorf("%+v", evs)
		}
		s.ExpectNothing(time.Minute)
		s.crash()
		s = s.p.d.script(t, v, true)
		s.expectPublish(0x32, 1, "t", "a")
		s.expectPublish(0x32, 2, "t", "b")
		s.sendAck(0x40, 1)
		s.sendAck(0x40, 2)
		s.conn.Close()
		checkEmpty(t, s.p.d)
	})
}

// A payload that is damaged, or gone, is given up at once.
func TestPayloadReadFindsDamage(t *testing.T) {
	for _, want := range []error{&store.DamageError{Problem: "checksum"}, store.ErrNotFound} {
		storedVersions(t, func(t *testing.T, v mqtt.Version) {
			s, fs := spilled(t, v, 1, want)
			evs := told[mqtt.MessageDropped](s.conn)
			if len(evs) != 1 || evs[0].Key != "a" || fs[0] != nil || !errors.Is(evs[0].Err, want) {
				t.Fatalf("%+v", evs)
			}
			s.expectPublish(0x32, 2, "t", "b")
		})
	}
}

// spilled is a process that gets its link with the messages "a" and "b", whose
// payloads are on a disk that fails so many reads.
func spilled(t *testing.T, v mqtt.Version, fails int, err error) (*storedScript, []*mqtt.Future) {
	t.Helper()
	d := newDisk()
	s := d.script(t, v, false)
	s.offline()
	for _, key := range []string{"a", "b"} {
		if err := s.conn.Publish(t.Context(), keyed(key, 1)).WaitStored(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.crash()
	s = d.script(t, v, true, mqtt.WithStoreMemory(0), mqtt.WithStore(&faulty{Store: d.mem, fails: fails, err: err}))
	return s, []*mqtt.Future{s.conn.Lookup("a"), s.conn.Lookup("b")}
}

// An inbound identifier that a later version noted is known to this one.
func TestInboundRecordOfALaterVersion(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		d.put(t, store.Incoming, 1, []byte{2, 0, 9, 77})
		s := d.script(t, v, true)
		c := s.subscribed("t", 2).C()
		s.message(0x3C, 9, "t", "x")
		s.ExpectBytes(rawAck(0x50, 9))
		idle(t, c)
		s.release(9)
		s.message(0x34, 9, "t", "y")
		expect(t, c, "y")
		s.ExpectBytes(rawAck(0x50, 9))
		s.release(9)
		s.closeEmpty(d)
	})
}

// A number of processes that cannot be one is not gone on from: newer
// messages would stand before older ones.
func TestAbsurdNumberOfProcesses(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := written(t, v)
		key, value := d.value(t, store.Meta, 0)
		value[0] = 2
		for i := 1; i < 9; i++ {
			value[i] = 0xFF
		}
		d.put(t, store.Meta, key.Seq, value)
		s := d.script(t, v, true)
		expectResent(s, "dabc")
		s.conn.Publish(t.Context(), keyed("new", 1))
		s.expectPublish(0x32, 5, "t", "new")
		s.crash()
		s = d.script(t, v, true)
		s.ExpectBytes(rawAck(0x62, 4))
		s.expectPublish(0x3A, 1, "t", "a")
		s.expectPublish(0x3C, 2, "t", "b")
		s.expectPublish(0x3A, 3, "t", "c")
		s.expectPublish(0x3A, 5, "t", "new")
	})
}

// What was written, and whose payload is damaged now, is never sent again; its
// identifier stays taken. When the payload cannot be read Connect fails.
func TestDamagedPayloadOfAWrittenMessage(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := written(t, v)
		onDisk := func(err error) mqtt.ConnectOption { return mqtt.WithStore(&faulty{Store: d.mem, fails: 1, err: err}) }
		network := &server.Network{}
		_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithClientID("c"), mqtt.WithSession(time.Hour),
			mqtt.WithDialer(network.Dial), mqtt.WithStoreMemory(0), onDisk(syscall.EIO))
		if e, ok := errors.AsType[*mqtt.StoreError](err); !ok || e.Op != "load" || !errors.Is(err, syscall.EIO) || network.Dials() != 0 {
			t.Fatalf("%v, %d dials", err, network.Dials())
		}
		s := d.script(t, v, true, mqtt.WithStoreMemory(0), onDisk(&store.DamageError{Problem: "checksum"}))
		expectResent(s, "dbc")
		if evs := told[mqtt.MessageDropped](s.conn); len(evs) != 1 || evs[0].Key != "a" {
			t.Errorf("events %+v", evs)
		}
		s.crash()
		if left := d.kinds(t); left[store.Outgoing] != 3 || left[store.Exchange] != 4 {
			t.Errorf("in the store: %v", left)
		}
		s = d.script(t, v, true)
		expectResent(s, "dbc")
		s.conn.Publish(t.Context(), keyed("new", 1))
		s.expectPublish(0x32, 5, "t", "new")
	})
}

// How far a message is whose packet identifier another one has is not known: it may have
// been sent, so that it is not taken back.
func TestTwoMessagesWithOneIdentifierInTheStore(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := written(t, v)
		key, value := d.value(t, store.Exchange, 2)
		value[4] = 1
		d.put(t, store.Exchange, key.Seq, value)
		network := &server.Network{}
		network.RefuseDials(-1, nil)
		f := d.process(network).connect(t, v).Lookup("c")
		if f == nil || f.Cancel() {
			t.Errorf("%v", f)
		}
	})
}
