// Checks on single records and batches: order, overwriting, deleting, values.

package storetest

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/millrace/mqtt/store"
)

func newSessionIsEmpty(t *testing.T, p *place) {
	s := session(t, p.store(t))
	holds(t, s)
}

func loadOrder(t *testing.T, p *place) {
	s := session(t, p.store(t))
	// Numbers whose text, or whose bytes the wrong way round, sort otherwise.
	commit(t, s, put(store.Inbox, 1, "e"), put(store.Outgoing, 256, "c"), put(store.Outgoing, 2, "a"))
	commit(t, s, put(store.Meta, 1<<63, "m"), put(store.Outgoing, 10, "b"), put(store.Exchange, 2, "d"))
	holds(t, s,
		record{key(store.Meta, 1<<63), "m"},
		record{key(store.Outgoing, 2), "a"},
		record{key(store.Outgoing, 10), "b"},
		record{key(store.Outgoing, 256), "c"},
		record{key(store.Exchange, 2), "d"},
		record{key(store.Inbox, 1), "e"})
	reads(t, s, record{key(store.Inbox, 1), "e"}, record{key(store.Outgoing, 2), "a"}, record{key(store.Inbox, 1), "e"})
}

func loadEndsWithVisitsError(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "b"))
	visits, stop := 0, errors.New("stop")
	err := s.Load(func(store.Entry) error { visits++; return stop })
	if !errors.Is(err, stop) || visits != 1 {
		t.Errorf("Load: %v after %d visits, want visit's own error after 1", err, visits)
	}
	holds(t, s, record{key(store.Outgoing, 1), "a"}, record{key(store.Outgoing, 2), "b"})
}

// A store that holds a lock or a transaction during visit hangs here.
func loadLetsVisitCommit(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "b"))
	err := s.Load(func(e store.Entry) error {
		if e.Key.Kind != store.Outgoing {
			return nil
		}
		large := store.Op{Key: key(store.Meta, e.Key.Seq), Body: make([]byte, 1<<20)}
		return s.Commit([]store.Op{del(store.Outgoing, e.Key.Seq), large})
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	commit(t, s, del(store.Meta, 1), del(store.Meta, 2))
	holds(t, s)
}

func loadLetsVisitRead(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Exchange, 1, "b"))
	err := s.Load(func(e store.Entry) error {
		reads(t, s, record{e.Key, string(e.Value)}, record{key(store.Exchange, 1), "b"})
		return nil
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
}

func deleteAbsent(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, del(store.Outgoing, 1), put(store.Outgoing, 2, "b"), del(store.Incoming, 9))
	commit(t, s, del(store.Outgoing, 1), del(store.Outgoing, 3))
	holds(t, s, record{key(store.Outgoing, 2), "b"})
}

func opsInOrder(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "old"), put(store.Outgoing, 2, "old"))
	commit(t, s,
		del(store.Outgoing, 1), put(store.Outgoing, 1, "new"), // is there
		put(store.Outgoing, 2, "new"), del(store.Outgoing, 2), // is not
		put(store.Outgoing, 3, "a"), put(store.Outgoing, 4, "d"), put(store.Outgoing, 3, "b"), put(store.Outgoing, 3, "c"),
		put(store.Outgoing, 5, "x"), del(store.Outgoing, 5), del(store.Outgoing, 5))
	holds(t, s,
		record{key(store.Outgoing, 1), "new"},
		record{key(store.Outgoing, 3), "c"},
		record{key(store.Outgoing, 4), "d"})
}

func overwriteChangesSize(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Exchange, 1, "a"), put(store.Exchange, 2, "b"), put(store.Exchange, 3, "c"))
	for _, n := range []int{0, 1, 5000, 2, 100_000, 0, 300} {
		value := string(numbered(2, n))
		commit(t, s, put(store.Exchange, 2, value))
		holds(t, s,
			record{key(store.Exchange, 1), "a"},
			record{key(store.Exchange, 2), value},
			record{key(store.Exchange, 3), "c"})
	}
}

func headAndBody(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s,
		store.Op{Key: key(store.Outgoing, 1), Head: []byte("he"), Body: []byte("ad")},
		store.Op{Key: key(store.Outgoing, 2), Head: []byte("head")},
		store.Op{Key: key(store.Outgoing, 3), Body: []byte("head")})
	holds(t, s,
		record{key(store.Outgoing, 1), "head"},
		record{key(store.Outgoing, 2), "head"},
		record{key(store.Outgoing, 3), "head"})
}

// The caller writes over its ops as soon as Commit is back.
func commitKeepsNoSlices(t *testing.T, p *place) {
	s := session(t, p.store(t))
	head, body := []byte("head"), []byte("body")
	ops := []store.Op{
		{Key: key(store.Outgoing, 2), Head: head, Body: body},
		{Key: key(store.Outgoing, 1), Head: body, Body: head},
	}
	want := []store.Op{ops[0], ops[1]}
	commit(t, s, ops...)
	if ops[0].Key != want[0].Key || ops[1].Key != want[1].Key || string(head) != "head" || string(body) != "body" {
		t.Error("Commit changed its argument")
	}
	clear(head)
	clear(body)
	clear(ops)
	holds(t, s, record{key(store.Outgoing, 1), "bodyhead"}, record{key(store.Outgoing, 2), "headbody"})
	// Nor one of a value in one piece.
	head, body = []byte("head"), []byte("body")
	commit(t, s, store.Op{Key: key(store.Outgoing, 1), Body: body}, store.Op{Key: key(store.Outgoing, 2), Head: head})
	clear(head)
	clear(body)
	holds(t, s, record{key(store.Outgoing, 1), "body"}, record{key(store.Outgoing, 2), "head"})
}

func largeBatch(t *testing.T, p *place) {
	s := session(t, p.store(t))
	var ops []store.Op
	var want []record
	for i := range uint64(5000) {
		ops = append(ops, put(store.Incoming, i, "v"))
		want = append(want, record{key(store.Incoming, i), "v"})
	}
	commit(t, s, ops...)
	holds(t, s, want...)
	for i := range ops {
		ops[i].Delete = true
	}
	commit(t, s, ops...)
	holds(t, s)
}

func emptyBatch(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s)
	holds(t, s)
}

func emptyValue(t *testing.T, p *place) {
	st := p.store(t)
	s := reopen(t, st)
	commit(t, s, store.Op{Key: key(store.Incoming, 7)}, store.Op{Key: key(store.Incoming, 8), Head: []byte{}})
	want := []record{{key(store.Incoming, 7), ""}, {key(store.Incoming, 8), ""}}
	holds(t, s, want...)
	closeSession(t, s)
	holds(t, session(t, st), want...)
}

func largeValue(t *testing.T, p *place) {
	st := p.store(t)
	s := reopen(t, st)
	value := numbered(1, 5<<20+1)
	commit(t, s, put(store.Outgoing, 1, "small"),
		store.Op{Key: key(store.Outgoing, 2), Head: value[:3], Body: value[3:]},
		put(store.Outgoing, 3, "small"))
	closeSession(t, s)
	s = session(t, st)
	holds(t, s,
		record{key(store.Outgoing, 1), "small"},
		record{key(store.Outgoing, 2), string(value)},
		record{key(store.Outgoing, 3), "small"})
	commit(t, s, del(store.Outgoing, 2))
	holds(t, s, record{key(store.Outgoing, 1), "small"}, record{key(store.Outgoing, 3), "small"})
}

func anyKey(t *testing.T, p *place) {
	s := session(t, p.store(t))
	var ops []store.Op
	var want []record
	for _, kind := range []store.Kind{store.Meta, store.Outgoing, store.Inbox, 100, 255} {
		for _, seq := range []uint64{0, 1, 255, 256, 1<<32 - 1, 1 << 32, math.MaxUint64} {
			ops = append(ops, put(kind, seq, "v"))
			want = append(want, record{key(kind, seq), "v"})
		}
	}
	for i := range ops { // backwards
		commit(t, s, ops[len(ops)-1-i])
	}
	holds(t, s, want...)
}

func readOrder(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "b"), put(store.Inbox, 1, "c"))
	reads(t, s)
	reads(t, s,
		record{key(store.Inbox, 1), "c"}, record{key(store.Outgoing, 2), "b"},
		record{key(store.Outgoing, 1), "a"}, record{key(store.Outgoing, 2), "b"})
}

func readNotFound(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 3, "c"))
	for _, absent := range []store.Key{key(store.Outgoing, 2), key(store.Incoming, 1), key(200, 0)} {
		for at, keys := range [][]store.Key{{absent, key(store.Outgoing, 1)}, {key(store.Outgoing, 1), absent}} {
			visits := 0
			err := s.Read(keys, func(int, []byte) error { visits++; return nil })
			if !errors.Is(err, store.ErrNotFound) || visits > at {
				t.Errorf("Read of %s: %v after %d visits, want ErrNotFound", keys, err, visits)
			}
		}
	}
}

func readEndsWithVisitsError(t *testing.T, p *place) {
	s := session(t, p.store(t))
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "b"))
	visits, stop := 0, errors.New("stop")
	err := s.Read([]store.Key{key(store.Outgoing, 1), key(store.Outgoing, 2)}, func(int, []byte) error { visits++; return stop })
	if !errors.Is(err, stop) || visits != 1 {
		t.Errorf("Read: %v after %d visits, want visit's own error after 1", err, visits)
	}
}

// manyRecords checks order and content of a large session over a new start.
func manyRecords(t *testing.T, p *place) {
	st := p.open(t)
	s := reopen(t, st)
	const batch = 1000
	n := uint64(p.opts.Records)
	var ops []store.Op
	for seq := uint64(0); seq < n; {
		ops = ops[:0]
		for ; seq < n && len(ops) < batch; seq++ {
			ops = append(ops, store.Op{Key: key(store.Outgoing, seq), Body: numbered(seq, 20)})
		}
		commit(t, s, ops...)
	}
	closeSession(t, s)
	closeStore(t, st)

	s = session(t, p.store(t))
	next := uint64(0)
	err := s.Load(func(e store.Entry) error {
		if e.Err != nil || e.Key != key(store.Outgoing, next) || !bytes.Equal(e.Value, numbered(next, 20)) {
			t.Fatalf("record %d is %s, %x, %v", next, e.Key, e.Value, e.Err)
		}
		next++
		return nil
	})
	if err != nil || next != n {
		t.Fatalf("Load: %v after %d of %d records", err, next, n)
	}
}

// A visit that appends to its value writes into no other.
func valuesHaveNoRoom(t *testing.T, p *place) {
	s := session(t, p.store(t))
	want := []record{{key(store.Outgoing, 1), "a"}, {key(store.Outgoing, 2), "bb"}, {key(store.Outgoing, 3), ""}, {key(store.Outgoing, 4), "d"}}
	var keys []store.Key
	for _, r := range want {
		commit(t, s, put(r.key.Kind, r.key.Seq, r.value))
		keys = append(keys, r.key)
	}
	check := func(i int, value []byte) error {
		if string(value) != want[i].value {
			t.Errorf("record %s is %q, want %q", want[i].key, value, want[i].value)
		}
		_ = append(value, "what a visit appends to it, longer than a record"...)
		return nil
	}
	n := 0
	if err := s.Load(func(e store.Entry) error { n++; return check(n-1, e.Value) }); err != nil || n != len(want) {
		t.Fatalf("Load: %v after %d records", err, n)
	}
	if err := s.Read(keys, check); err != nil {
		t.Fatalf("Read: %v", err)
	}
	holds(t, s, want...)
}
