package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// Damaged records among good ones: the good ones come in order, each damaged one
// once, in its place, with its bytes kept.
func TestDamagedRecordsAreQuarantined(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	for i := range uint64(8) {
		commit(t, sess, put(store.Outgoing, 10*i, []byte(fmt.Sprint("value ", i))))
	}
	closed(t, s)
	key := func(i byte) []byte { return []byte{0, 0, 0, 0, 0, 0, 0, 10 * i} }
	raw(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket(recordsBucket(store.Outgoing))
		flipped := []byte(string(b.Get(key(1))))
		flipped[len(flipped)-1] ^= 1
		return errors.Join(
			b.Put(key(1), flipped),
			b.Put(key(2), nil),                   // empty
			b.Put(key(3), b.Get(key(3))[:6]),     // truncated
			b.Put(key(5), b.Get(key(4))),         // another record's
			b.Put([]byte("foreign"), []byte("")), // sorts behind numbers
		)
	})
	s = open(t, path)
	sess = session(t, s, "c")
	var got []string
	err := sess.Load(func(e store.Entry) error {
		if d, ok := errors.AsType[*store.DamageError](e.Err); ok {
			if e.Value != nil || d.Key != e.Key || !strings.Contains(d.Quarantine, path) {
				t.Errorf("got %+v with %v", e, d)
			}
			got = append(got, d.Problem)
			return nil
		}
		got = append(got, string(e.Value))
		return nil
	})
	want := "[value 0 checksum truncated checksum value 4 checksum value 6 value 7 foreign key]"
	if err != nil || strings.ReplaceAll(fmt.Sprint(got), "  ", " ") != want {
		t.Errorf("Load: %v, got %v, want %v", err, got, want)
	}
	if sound, bad := load(t, sess); len(sound) != 4 || len(bad) != 0 {
		t.Errorf("a second Load: %d records, damaged %v; want 4 and none", len(sound), bad)
	}
	kept, err := s.Quarantine()
	if err != nil || len(kept) != 5 {
		t.Fatalf("Quarantine: %d records, %v; want 5", len(kept), err)
	}
	if q := kept[0]; string(q.Bucket) != string(recordsBucket(store.Outgoing)) || string(q.Key) != string(key(1)) || !strings.HasSuffix(string(q.Raw), "value 0") {
		t.Errorf("kept %+v", q)
	}
	// And it stays so.
	commit(t, sess, put(store.Outgoing, 10, []byte("new")))
	closed(t, s)
	s = open(t, path)
	if sound, bad := load(t, session(t, s, "c")); len(sound) != 5 || len(bad) != 0 {
		t.Errorf("after a new start: %d records, damaged %v; want 5 and none", len(sound), bad)
	}
}

// Read names the damage; the record stays for Load to set aside.
func TestReadNamesTheDamagedRecord(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, []byte("a")), put(store.Outgoing, 2, []byte("b")))
	closed(t, s)
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket(store.Outgoing)).Put([]byte{0, 0, 0, 0, 0, 0, 0, 2}, []byte("12345"))
	})
	sess := session(t, open(t, path), "c")
	keys := []store.Key{{Kind: store.Outgoing, Seq: 1}, {Kind: store.Outgoing, Seq: 2}}
	visits := 0
	err := sess.Read(keys, func(int, []byte) error { visits++; return nil })
	d, ok := errors.AsType[*store.DamageError](err)
	if !ok || d.Key != keys[1] || visits != 1 {
		t.Errorf("Read: %v after %d visits, want a DamageError on %s after 1", err, visits, keys[1])
	}
}

// The count that limits go by leaves out what was set aside.
func TestDamagedRecordsLeaveTheLimit(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, []byte("a")), put(store.Outgoing, 2, []byte("b")))
	closed(t, s)
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket(store.Outgoing)).Put([]byte{0, 0, 0, 0, 0, 0, 0, 1}, []byte("x"))
	})
	s = open(t, path, bolt.WithLimits(2, 2))
	sess := session(t, s, "c")
	load(t, sess)
	commit(t, sess, put(store.Outgoing, 3, []byte("c")))
	if err := sess.Commit([]store.Op{put(store.Outgoing, 4, nil)}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Commit: %v, want ErrFull", err)
	}
}

// Two Loads at once meet the same damaged records, with nothing in them: each leaves
// the count once.
func TestDamagedRecordsLeaveTheLimitOnce(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, nil), put(store.Outgoing, 2, nil))
	closed(t, s)
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket(store.Outgoing)).Put([]byte{0, 0, 0, 0, 0, 0, 0, 1}, nil)
	})
	sess := session(t, open(t, path, bolt.WithLimits(2, 0)), "c")
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if err := sess.Load(func(store.Entry) error { return nil }); err != nil {
				t.Errorf("Load: %v", err)
			}
		})
	}
	all.Wait()
	commit(t, sess, put(store.Outgoing, 3, nil))
	if err := sess.Commit([]store.Op{put(store.Outgoing, 4, nil)}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Commit: %v, want ErrFull", err)
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	for _, c := range []struct {
		name          string
		records, size int
		kept          int // at most; one less where lengths do not come out even
	}{{"records", 3000, 0, 1000}, {"bytes", 6, 1 << 20, 4}} {
		t.Run(c.name, func(t *testing.T) {
			path := tempPath(t)
			s := open(t, path)
			var ops []store.Op
			for i := range uint64(c.records) {
				ops = append(ops, put(store.Inbox, i, make([]byte, c.size)))
			}
			commit(t, session(t, s, "c"), ops...)
			closed(t, s)
			spoil(t, path, store.Inbox)
			s = open(t, path)
			if sound, bad := load(t, session(t, s, "c")); len(sound) != 0 || len(bad) != c.records {
				t.Errorf("%d sound, %d damaged; want %d damaged", len(sound), len(bad), c.records)
			}
			kept, err := s.Quarantine()
			total := 0
			for _, q := range kept {
				if total += len(q.Raw); len(q.Raw) > 1<<20 {
					t.Errorf("%d bytes of one record", len(q.Raw))
				}
			}
			if n := len(kept); err != nil || n > c.kept || n < c.kept-1 || total > 4<<20 || kept[n-1].Number != uint64(c.records) {
				t.Errorf("%d kept, %d bytes, %v", n, total, err)
			}
		})
	}
}

// spoil makes the checksums of client c's records of a kind wrong.
func spoil(t *testing.T, path string, kind store.Kind) {
	t.Helper()
	raw(t, path, func(tx *bbolt.Tx) error {
		var all []error
		b := tx.Bucket(recordsBucket(kind))
		c := b.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			all = append(all, b.Put(k, append([]byte("xxxx"), v[4:]...)))
		}
		return errors.Join(all...)
	})
}

// Every message of a full file is damaged. Each is told once, and what is kept of them
// does not fill the file for good.
func TestQuarantineLeavesRoom(t *testing.T) {
	for _, size := range []int{2_000, 16_000} {
		path := tempPath(t)
		s := open(t, path, bolt.WithMaxFile(1<<20))
		sess := session(t, s, "c")
		n, value := 0, bytes.Repeat([]byte("m"), size)
		for sess.Commit([]store.Op{put(store.Outgoing, uint64(n), value)}) == nil {
			n++
		}
		closed(t, s)
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.ReplaceAll(file, []byte("mmmmmmmm"), []byte("nnnnnnnn")), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, bolt.WithMaxFile(1<<20))
		sess = session(t, s, "c")
		if sound, bad := load(t, sess); len(sound) != 0 || len(bad) != n {
			t.Errorf("%d sound and %d damaged records of %d", len(sound), len(bad), n)
		}
		if sound, bad := load(t, sess); len(sound)+len(bad) != 0 {
			t.Errorf("met again: %d sound, %d damaged", len(sound), len(bad))
		}
		if kept, err := s.Quarantine(); len(kept) == 0 {
			t.Errorf("nothing is kept of them: %v", err)
		}
		for i := range n / 2 {
			commit(t, sess, put(store.Outgoing, uint64(n+i), value))
		}
	}
}
