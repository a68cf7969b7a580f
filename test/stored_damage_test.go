package mqtt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// damaged is a store some of whose records cannot be read, once.
type damaged struct {
	store.Store
	bad map[store.Key]bool
}

func (d *damaged) Session(id string) (store.Session, error) {
	s, err := d.Store.Session(id)
	return &damagedSession{s, d}, err
}

type damagedSession struct {
	store.Session
	d *damaged
}

func (s *damagedSession) Load(visit func(store.Entry) error) error {
	return s.Session.Load(func(e store.Entry) error {
		if s.d.bad[e.Key] {
			e.Value, e.Err = nil, &store.DamageError{Key: e.Key, Problem: "checksum"}
		}
		return visit(e)
	})
}

// written leaves a session with four messages of QoS 1, 2, 1, 2 that were
// written, with the identifiers 1 to 4, the last of them released.
func written(t *testing.T, v mqtt.Version) *disk {
	d := newDisk()
	s := d.script(t, v, false)
	for i, key := range []string{"a", "b", "c", "d"} {
		qos := mqtt.QoS(1 + i%2)
		s.conn.Publish(t.Context(), keyed(key, qos))
		s.expectPublish(0x30|byte(qos)<<1, uint16(i+1), "t", key)
	}
	s.sendAck(0x50, 4)
	s.ExpectBytes(rawAck(0x62, 4))
	s.crash()
	return d
}

// storedDamage is damage to what written has left on the disk.
type storedDamage struct {
	name   string
	events int
	do     func(t *testing.T, d *disk, bad map[store.Key]bool)
	// expect is what is sent of a (1), b (2), c (3) and d (4); next the first new
	// identifier, 0 where one of an exchange that is not known may be any.
	expect string
	next   uint16
	left   bool // the records stay as they are
}

func changed(kind store.Kind, i int, change func([]byte) []byte) func(*testing.T, *disk, map[store.Key]bool) {
	return func(t *testing.T, d *disk, _ map[store.Key]bool) {
		key, value := d.value(t, kind, i)
		d.put(t, kind, key.Seq, change(value))
	}
}

func unreadableRecord(kind store.Kind, i int) func(*testing.T, *disk, map[store.Key]bool) {
	return func(t *testing.T, d *disk, bad map[store.Key]bool) {
		key, _ := d.value(t, kind, i)
		bad[key] = true
	}
}

func emptied([]byte) []byte         { return []byte{} }
func shortened(b []byte) []byte     { return b[:len(b)-1] }
func foreignFormat(b []byte) []byte { b[0] = 0xEE; return b }

var storedDamages = []storedDamage{
	{name: "nothing", do: func(*testing.T, *disk, map[store.Key]bool) {}, expect: "dabc", next: 5},
	{"meta unreadable", 1, unreadableRecord(store.Meta, 0), "dabc", 5, false},
	{"meta foreign", 1, changed(store.Meta, 0, foreignFormat), "dabc", 5, true},
	{"message empty", 1, changed(store.Outgoing, 0, emptied), "dbc", 5, false},
	{"message short", 1, changed(store.Outgoing, 1, shortened), "dac", 5, false},
	{"message foreign", 1, changed(store.Outgoing, 2, foreignFormat), "dab", 5, true},
	{"message unreadable", 1, unreadableRecord(store.Outgoing, 0), "dbc", 5, false},
	{"released message unreadable", 1, unreadableRecord(store.Outgoing, 3), "dabc", 5, false},
	{"exchange without a message", 1, func(t *testing.T, d *disk, _ map[store.Key]bool) {
		_, value := d.value(t, store.Exchange, 0)
		value[4] = 9
		d.put(t, store.Exchange, 1<<50, value)
	}, "dabc", 10, false},
	// The first has the identifier; b goes as a new message would, but that it is
	// of QoS 2 and may double: it is given up.
	{"two exchanges with one identifier, QoS 2", 1, changed(store.Exchange, 1, func(b []byte) []byte { b[4] = 1; return b }), "dac", 0, false},
	{"two exchanges with one identifier, QoS 1", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[4] = 1; return b }), "dab*", 0, false},
	{"unknown kind", 1, func(t *testing.T, d *disk, _ map[store.Key]bool) { d.put(t, 77, 1, []byte{1}) }, "dabc", 5, true},
	{"exchange foreign", 1, changed(store.Exchange, 2, foreignFormat), "dab", 5, true},
	{"exchange foreign with an identifier of its own", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[0], b[4] = 2, 5; return b }), "dab", 6, true},
	{"released message foreign", 1, changed(store.Outgoing, 3, foreignFormat), "dabc", 5, true},
	{"incoming of a later format", 1, func(t *testing.T, d *disk, _ map[store.Key]bool) { d.put(t, store.Incoming, 1, []byte{2, 0, 9}) }, "dabc", 5, true},
	// How far it is cannot be told: as with two of one identifier.
	{"exchange unreadable, QoS 1", 1, unreadableRecord(store.Exchange, 2), "dab*", 0, false},
	{"exchange unreadable, QoS 2", 1, unreadableRecord(store.Exchange, 1), "dac", 0, false},
	{"exchange with identifier 0", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[3], b[4] = 0, 0; return b }), "dab*", 0, false},
	{"exchange unreadable, released", 1, unreadableRecord(store.Exchange, 3), "abc", 0, false},
	{"exchange in no state", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[1] = 0; return b }), "dab*", 0, false},
	{"exchange in a state of its own", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[1] = 4; return b }), "dab*", 0, false},
	{"exchange of QoS 3", 1, changed(store.Exchange, 2, func(b []byte) []byte { b[2] = 3; return b }), "dab*", 0, false},
	{"message with a key beyond its end", 1, changed(store.Outgoing, 1, func(b []byte) []byte { b[9] = 0xFF; return b }), "dac", 5, false},
	{"incoming with identifier 0", 1, func(t *testing.T, d *disk, _ map[store.Key]bool) { d.put(t, store.Incoming, 1, []byte{1, 0, 0}) }, "dabc", 5, false},
	{"incoming foreign", 1, func(t *testing.T, d *disk, _ map[store.Key]bool) { d.put(t, store.Incoming, 1, []byte{1}) }, "dabc", 5, false},
}

// Bad entries among good ones are put aside with an event each, once; the
// good ones go on in order, and their identifiers stay taken.
func TestDamagedRecordsAreQuarantined(t *testing.T) {
	for _, c := range storedDamages {
		t.Run(c.name, func(t *testing.T) {
			storedVersions(t, func(t *testing.T, v mqtt.Version) {
				d := written(t, v)
				bad := map[store.Key]bool{}
				c.do(t, d, bad)
				before := d.records(t)
				s := d.script(t, v, true, mqtt.WithStore(&damaged{d.mem, bad}))
				expectResent(s, c.expect)
				evs := told[mqtt.StoreDamaged](s.conn)
				if len(evs) != c.events {
					t.Errorf("events %+v, want %d", evs, c.events)
				}
				for _, ev := range evs {
					if _, ok := errors.AsType[*store.DamageError](ev.Err); !ok || ev.Left != c.left {
						t.Errorf("%v, left %v", ev.Err, ev.Left)
					}
				}
				f := s.conn.Publish(t.Context(), keyed("new", 1))
				if c.next == 0 {
					s.expectAnew("new")
				} else {
					s.expectPublish(0x32, c.next, "t", "new")
				}
				pending(t, f)
				s.crash()
				checkNotOverwritten(t, d, before)
				// What was put aside is not met again, what was left is.
				clear(bad)
				s = d.script(t, v, true)
				if evs := told[mqtt.StoreDamaged](s.conn); len(evs) > 0 != c.left {
					t.Errorf("met again: %+v", evs)
				}
			})
		})
	}
}

// expectResent expects what which names: d is a PUBREL, * a message sent as new.
func expectResent(s *storedScript, which string) {
	s.t.Helper()
	for _, k := range which {
		switch k {
		case 'd':
			s.ExpectBytes(rawAck(0x62, 4))
		case '*':
			s.expectAnew("c")
		case 'b':
			s.expectPublish(0x3C, 2, "t", "b")
		default:
			s.expectPublish(0x3A, uint16(k-'a')+1, "t", string(k))
		}
	}
	s.ExpectNothing(time.Minute)
}

// expectAnew expects a PUBLISH of QoS 1 with an identifier that nothing has.
func (s *storedScript) expectAnew(payload string) {
	s.t.Helper()
	p := slices.Clone(s.ExpectPacket())
	id := binary.BigEndian.Uint16(p[5:])
	if !bytes.Equal(p, rawPublish(s.v, 0x32, id, "t", payload)) || id == 0 || s.conn.Lookup(payload).PacketID() != id {
		s.t.Fatalf("% X is not %q anew", p, payload)
	}
}

// Of an exchange whose record is damaged the packet identifier is not known.
// The server may have a message of QoS 2 under it and would take a new one for that:
// those begin anywhere. Of what was given up the application is told.
func TestIdentifierOfADamagedExchange(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		ids := map[uint16]bool{}
		for range 8 {
			d := newDisk()
			s := d.script(t, v, false)
			s.conn.Publish(t.Context(), keyed("k", 2))
			s.expectPublish(0x34, 1, "t", "k")
			s.crash()
			key, _ := d.value(t, store.Exchange, 0)
			s = d.script(t, v, true, mqtt.WithStore(&damaged{d.mem, map[store.Key]bool{key: true}}))
			f := s.conn.Publish(t.Context(), keyed("new", 2))
			s.ExpectPacket()
			ids[f.PacketID()] = true
			evs := told[mqtt.MessageDropped](s.conn)
			if len(evs) != 1 || evs[0].Topic != "t" || evs[0].Key != "k" || evs[0].Total != 1 {
				t.Fatalf("%+v", evs)
			}
			if e, ok := errors.AsType[*store.DamageError](evs[0].Err); !ok || e.Key != key {
				t.Errorf("%v", evs[0].Err)
			}
		}
		if len(ids) < 7 {
			t.Errorf("of 8 processes the first identifiers are %v", ids)
		}
	})
}

// checkNotOverwritten checks that the newest message has a number of its own.
func checkNotOverwritten(t *testing.T, d *disk, before []store.Key) {
	t.Helper()
	d.session(t, func(s store.Session) {
		s.Load(func(e store.Entry) error {
			if e.Key.Kind == store.Outgoing && slices.Contains(e.Value, 'w') && slices.Contains(before, e.Key) {
				t.Errorf("the new message took the number %v", e.Key)
			}
			return nil
		})
	})
}

// A message with a key that is not in the queue any more leaves its key free,
// also at QoS 0.
func TestKeyOfAQueuedQoS0IsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDisk().script(t, mqtt.V5, false, mqtt.WithQueuedQoS0())
		s.offline()
		f := s.conn.Publish(t.Context(), keyed("k", 0))
		s.net.RefuseDials(0, nil)
		s.next(connack(mqtt.V5, true))
		s.expectPublish(0x30, 0, "t", "k")
		succeeded(t, f)
		if s.conn.Lookup("k") != nil {
			t.Error("still in flight")
		}
		f = s.conn.Publish(t.Context(), keyed("k", 1))
		s.expectPublish(0x32, 1, "t", "k")
		if got := s.conn.Lookup("k"); got != f {
			t.Errorf("Lookup returned %p, want %p", got, f)
		}
	})
}

// The payload of a message that was given away is the caller's again when its
// Future resolves, though a commit still writes it.
func TestGivenAwayPayloadIsFreeAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := d.script(t, mqtt.V5, false)
		s.p.seen = func(ops []store.Op) {
			for _, op := range ops {
				if len(op.Body) > 0 && op.Body[0] != 'x' {
					t.Errorf("committed %q", op.Body)
				}
			}
		}
		s.hold()
		payload := []byte("x")
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1, Payload: payload}.GiveAway())
		synctest.Wait()
		if !f.Cancel() {
			t.Fatal("not cancelled")
		}
		outcome(t, f)
		payload[0] = 'y'
		s.open()
		s.closeEmpty(d)
	})
}
