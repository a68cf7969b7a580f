// What the checks say often: operations, contents, comparisons.

package storetest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/millrace/mqtt/store"
)

// record is a key and its value as a check expects them.
type record struct {
	key   store.Key
	value string
}

func key(kind store.Kind, seq uint64) store.Key { return store.Key{Kind: kind, Seq: seq} }

func put(kind store.Kind, seq uint64, value string) store.Op {
	return store.Op{Key: key(kind, seq), Body: []byte(value)}
}

func del(kind store.Kind, seq uint64) store.Op {
	return store.Op{Key: key(kind, seq), Delete: true}
}

func commit(t *testing.T, s store.Session, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(ops); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// contents loads the session.
func contents(t *testing.T, s store.Session) []record {
	t.Helper()
	var got []record
	err := s.Load(func(e store.Entry) error {
		if e.Err != nil {
			t.Errorf("record %s: %v", e.Key, e.Err)
		}
		got = append(got, record{e.Key, string(e.Value)})
		return nil
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return got
}

// holds checks that the session holds want and nothing else, by Load and by Read.
func holds(t *testing.T, s store.Session, want ...record) {
	t.Helper()
	got := contents(t, s)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Fatalf("record %s is missing; got %d, want %d records", want[i].key, len(got), len(want))
		case i >= len(want):
			t.Fatalf("record %s is too many; got %d, want %d records", got[i].key, len(got), len(want))
		case got[i].key != want[i].key:
			t.Fatalf("record %d is %s, want %s", i, got[i].key, want[i].key)
		case got[i].value != want[i].value:
			t.Fatalf("record %s is %.80q, want %.80q", got[i].key, got[i].value, want[i].value)
		}
	}
	reads(t, s, want...)
}

// reads checks that Read finds want, in that order.
func reads(t *testing.T, s store.Session, want ...record) {
	t.Helper()
	keys := make([]store.Key, len(want))
	for i, r := range want {
		keys[i] = r.key
	}
	next := 0
	err := s.Read(keys, func(i int, value []byte) error {
		if i != next {
			t.Fatalf("Read visits %d, want %d", i, next)
		}
		if string(value) != want[i].value {
			t.Fatalf("Read of %s is %.80q, want %.80q", keys[i], value, want[i].value)
		}
		next++
		return nil
	})
	if err != nil || next != len(want) {
		t.Fatalf("Read: %v after %d of %d records", err, next, len(want))
	}
}

// numbered is a value of n bytes that tells which record it belongs to.
func numbered(seq uint64, n int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, seq*0x9e3779b97f4a7c15), n/8+1)[:n]
}
