package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// Damaged records among good ones: the good ones come in order, each damaged one
// once, in its place, with its bytes kept.
func TestB22_DamagedRecords(t *testing.T) {
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
func TestB22_DamagedRecordRead(t *testing.T) {
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
func TestB22_DamagedRecordsLeaveTheLimit(t *testing.T) {
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
func TestB22_DamagedRecordsLeaveTheLimitOnce(t *testing.T) {
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

func TestB22_QuarantineIsBounded(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	var ops []store.Op
	for i := range uint64(3000) {
		ops = append(ops, put(store.Outgoing, i, nil))
	}
	for i := range uint64(6) {
		ops = append(ops, put(store.Inbox, i, make([]byte, 1<<20)))
	}
	commit(t, sess, ops...)
	closed(t, s)
	raw(t, path, func(tx *bbolt.Tx) error {
		var all []error
		for _, kind := range []store.Kind{store.Outgoing, store.Inbox} {
			b := tx.Bucket(recordsBucket(kind))
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				all = append(all, b.Put(k, append([]byte("xxxx"), v[4:]...)))
			}
		}
		return errors.Join(all...)
	})
	s = open(t, path)
	if sound, bad := load(t, session(t, s, "c")); len(sound) != 0 || len(bad) != 3006 {
		t.Errorf("%d sound, %d damaged; want 3006 damaged", len(sound), len(bad))
	}
	kept, err := s.Quarantine()
	total := 0
	for _, q := range kept {
		total += len(q.Raw)
	}
	if err != nil || len(kept) == 0 || len(kept) > 1000 || total > 4<<20 || kept[len(kept)-1].Number != 3006 {
		t.Errorf("%d kept, %d bytes, %v", len(kept), total, err)
	}
}

func TestB22_EmptyFile(t *testing.T) {
	path := tempPath(t)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path); !isCorrupt(err) {
		t.Errorf("Open: %v, want a CorruptError", err)
	}
	s := open(t, path, bolt.WithSalvage())
	if got := s.Salvaged(); got == nil || got.Records != 0 {
		t.Errorf("Salvaged: %+v", got)
	}
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*bolt.CorruptError](err)
	return ok
}

// image is a file with records of several kinds and sizes on a few hundred pages,
// some of them free, and what is in it for client c.
func image(t testing.TB) (file []byte, records map[store.Key]string) {
	path := tempPath(t)
	s := open(t, path)
	sess, other := session(t, s, "c"), session(t, s, "other")
	for i := range uint64(60) {
		var ops []store.Op
		for j := range uint64(10) {
			seq := 10*i + j
			out := store.Key{Kind: store.Outgoing, Seq: seq}
			ops = append(ops, put(out.Kind, seq, content(out, int(seq*37%500))), put(store.Exchange, seq, []byte{byte(seq)}))
			if seq >= 300 {
				ops = append(ops, del(store.Outgoing, seq-300), del(store.Exchange, seq-300))
			}
		}
		commit(t, sess, ops...)
		commit(t, other, ops...)
	}
	large := store.Key{Kind: store.Inbox, Seq: 1}
	// Twice, so that the file is right also as it was one commit before: a damaged
	// newest head cannot be told from a crash.
	for range 2 {
		commit(t, sess, put(large.Kind, large.Seq, content(large, 30_000)))
	}
	records, bad := load(t, sess)
	if len(bad) != 0 {
		t.Fatal(bad)
	}
	closed(t, s)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, records
}

// tryDamaged opens file, and with salvage; whatever loads must be right. It
// returns what happened, in a word.
func tryDamaged(t testing.TB, dir, damage string, file []byte, want map[store.Key]string) string {
	t.Helper()
	path := filepath.Join(dir, "damaged.db")
	defer removeAll(t, dir)
	defer func() {
		if t.Failed() {
			t.Log(damage)
		}
	}()
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(path)
	outcome := "open"
	if err != nil {
		if _, ok := errors.AsType[*bolt.FormatError](err); !ok && !isCorrupt(err) {
			t.Errorf("Open: %v, want a CorruptError or a FormatError", err)
		}
		if now, _ := os.ReadFile(path); string(now) != string(file) {
			t.Error("Open failed and changed the file")
		}
		outcome = "refused"
		s, err = bolt.Open(path, bolt.WithSalvage())
		if !isFormat(err) && err != nil {
			t.Fatalf("Open with salvage: %v", err)
		}
		if err != nil {
			return outcome
		}
		if now, _ := os.ReadFile(s.Salvaged().Aside); string(now) != string(file) {
			t.Error("the file that was put aside is not what it was")
		}
	}
	defer s.Close()
	sess, err := s.Session("c")
	if err != nil {
		t.Errorf("Session: %v", err)
		return "failed"
	}
	sound, bad := load(t, sess)
	for key, value := range sound {
		if want[key] != value {
			t.Errorf("record %s is not what was put", key)
		}
	}
	if outcome == "open" && len(sound)+len(bad) < len(want) {
		t.Errorf("%d sound and %d damaged records of %d", len(sound), len(bad), len(want))
	}
	// It can be used on, and the damage is met once.
	commit(t, sess, put(store.Meta, 1, nil))
	if again, bad := load(t, sess); len(again) != len(sound)+1 || len(bad) != 0 {
		t.Errorf("a second Load: %d sound, %d damaged; want %d and 0", len(again), len(bad), len(sound)+1)
	}
	switch {
	case outcome == "open" && len(bad) > 0:
		return "quarantined"
	case outcome == "refused" && len(sound)+len(bad) >= len(want):
		return "all salvaged"
	case outcome == "refused" && len(sound) > 0:
		return "part salvaged"
	}
	return outcome
}

func isFormat(err error) bool {
	_, ok := errors.AsType[*bolt.FormatError](err)
	return ok
}

func removeAll(t testing.TB, dir string) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		t.Error(err)
	}
}

// A file cut anywhere.
func TestB22_TruncatedFile(t *testing.T) {
	file, want := image(t)
	rnd, dir := chance.Rand(t), t.TempDir()
	outcomes := make(map[string]int)
	for range chance.Rounds(15, 500) {
		n := rnd.IntN(len(file))
		if rnd.IntN(2) == 0 {
			n = n / 512 * 512
		}
		damage := fmt.Sprintf("cut at byte %d of %d", n, len(file))
		outcomes[tryDamaged(t, dir, damage, file[:n], want)]++
		if t.Failed() {
			break
		}
	}
	t.Logf("%d bytes: %v", len(file), outcomes)
}

// A bit flipped, or a stretch overwritten, anywhere in the pages in use.
func TestB22_FlippedBits(t *testing.T) {
	file, want := image(t)
	rnd, dir := chance.Rand(t), t.TempDir()
	outcomes := make(map[string]int)
	used := len(file)
	for used > 0 && file[used-1] == 0 {
		used--
	}
	for range chance.Rounds(40, 3000) {
		damaged := []byte(string(file))
		at := rnd.IntN(used)
		if rnd.IntN(3) == 0 {
			at = at&^4095 + rnd.IntN(64) // heads of pages and their first elements
		}
		what := "bit"
		switch rnd.IntN(4) {
		case 0:
			what = "sector of zeros"
			clear(damaged[at&^511 : min(at&^511+512, len(file))])
		case 1:
			what = "page of another place"
			from := rnd.IntN(used/4096) * 4096
			copy(damaged[at&^4095:], file[from:from+4096])
		default:
			damaged[at] ^= 1 << rnd.IntN(8)
		}
		damage := fmt.Sprintf("%s at byte %d of %d", what, at, used)
		outcomes[tryDamaged(t, dir, damage, damaged, want)]++
		if t.Failed() {
			break
		}
	}
	t.Logf("%d bytes: %v", used, outcomes)
}

// A bit flipped in what names a bucket, or leads from there to its records: no client
// finds itself without records and without a word. A name can be put right.
func TestB22_DamagedNameOfABucket(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	var ops []store.Op
	for i := range uint64(40) {
		ops = append(ops, put(store.Outgoing, i, make([]byte, 200)))
	}
	commit(t, session(t, s, "c"), ops...)
	closed(t, s)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := recordsBucket(store.Outgoing)
	at := bytes.Index(file, name)
	for bit := range 8 * (len(name) + 16) { // root page and sequence
		damaged := bytes.Clone(file)
		damaged[at+bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bolt.Open(path); !isCorrupt(err) {
			t.Fatalf("byte %d, bit %d: Open: %v, want a CorruptError", bit/8, bit%8, err)
		}
		if bit >= 8*len(name) {
			continue
		}
		s := open(t, path, bolt.WithSalvage())
		if sound, bad := load(t, session(t, s, "c")); len(sound) != len(ops) || len(bad) > 0 {
			t.Errorf("byte %d, bit %d: %d sound and %d damaged records of %d", bit/8, bit%8, len(sound), len(bad), len(ops))
		}
		closed(t, s)
	}
}

// The file is cut, or its heads are overwritten, while it is open: calls end with an
// error, none panics or hangs, and Close lets go of the file.
func TestB22_DamagedWhileOpen(t *testing.T) {
	for name, damage := range map[string]func(f *os.File) error{
		"only the heads stay": func(f *os.File) error { return f.Truncate(8192) },
		"one head stays":      func(f *os.File) error { return f.Truncate(4096) },
		"nothing stays":       func(f *os.File) error { return f.Truncate(0) },
		"heads of zeros":      func(f *os.File) error { _, err := f.WriteAt(make([]byte, 8192), 0); return err },
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			s := open(t, path)
			sess := session(t, s, "c")
			for i := range uint64(50) {
				commit(t, sess, put(store.Outgoing, i, make([]byte, 1000)))
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err == nil {
				err = errors.Join(damage(f), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
			within(t, 10*time.Second, func() {
				load := func() error { return sess.Load(func(store.Entry) error { return nil }) }
				commit := func() error { return sess.Commit([]store.Op{put(store.Outgoing, 1, nil)}) }
				for i, call := range []func() error{load, load, commit, commit, load} {
					if err := call(); err == nil {
						t.Errorf("call %d succeeded", i)
					}
				}
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			if _, err := bolt.Open(path); !isCorrupt(err) {
				t.Errorf("Open: %v, want a CorruptError", err)
			}
		})
	}
}
