package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// A bucket in the place of a record, and keys out of order, are damage to the file:
// bbolt would miss records there, or could not take one out.
func TestDamagedTree(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"a bucket in the place of a record": func(t *testing.T, path string) {
			raw(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.Bucket(recordsBucket(store.Outgoing)).CreateBucket([]byte("bucket 8"))
				return err
			})
		},
		"keys out of order": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			key, wrong := []byte{0, 0, 0, 0, 0, 0, 7, 2}, []byte{9, 0, 0, 0, 0, 0, 7, 2}
			if !bytes.Contains(b, key) {
				t.Fatal("no such key")
			}
			if err := os.WriteFile(path, bytes.ReplaceAll(b, key, wrong), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			s := open(t, path)
			commit(t, session(t, s, "c"), put(store.Outgoing, 0x701, []byte("a")), put(store.Outgoing, 0x702, []byte("b")), put(store.Outgoing, 0x703, []byte("c")))
			closed(t, s)
			damage(t, path)
			if _, err := bolt.Open(path); !isCorrupt(err) {
				t.Errorf("Open: %v, want a CorruptError", err)
			}
			sess := session(t, open(t, path, bolt.WithSalvage()), "c")
			sound, bad := load(t, sess)
			if len(sound) < 2 || len(sound)+len(bad) > 3 {
				t.Errorf("%d sound and %d damaged records", len(sound), len(bad))
			}
			if again, bad := load(t, sess); len(again) != len(sound) || len(bad) > 0 {
				t.Errorf("a second Load: %d sound and %d damaged records", len(again), len(bad))
			}
		})
	}
}

// A head whose fixed fields are damaged, which no crash explains, is damage: with it
// goes the last commit.
func TestDamagedHead(t *testing.T) {
	file, want := image(t)
	for _, at := range []int{0, 8, 16, 20, 24} { // number, flags; magic, version, page size
		for head := range 2 {
			path := tempPath(t)
			damaged := bytes.Clone(file)
			damaged[head*4096+at] ^= 0x40
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			if s, err := bolt.Open(path); !isCorrupt(err) {
				t.Errorf("head %d, byte %d: Open: %v, want a CorruptError", head, at, err)
				if err == nil {
					s.Close()
				}
				continue
			}
			s := open(t, path, bolt.WithSalvage())
			if sound, bad := load(t, session(t, s, "c")); len(sound) != len(want) || len(bad) > 0 {
				t.Errorf("head %d, byte %d: %d sound and %d damaged records of %d", head, at, len(sound), len(bad), len(want))
			}
			closed(t, s)
		}
	}
}

// Where the list of free pages is damaged and a tree too, nothing tells what is in
// use from what was deleted since: nothing is salvaged, and the file kept.
func TestSalvageTrustsNoFreePage(t *testing.T) {
	const pageSize, flagsAt, leaf, freelist = 4096, 8, 2, 0x10
	file, want := image(t)
	dir, tried := t.TempDir(), 0
	path := filepath.Join(dir, "damaged.db")
	salvaged := func(pages ...int) (records int) {
		t.Helper()
		damaged := bytes.Clone(file)
		for _, page := range pages {
			clear(damaged[page*pageSize+flagsAt:][:2])
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, bolt.WithSalvage())
		records = -1
		if r := s.Salvaged(); r != nil {
			records = r.Records
		}
		closed(t, s)
		removeAll(t, dir)
		return records
	}
	var lists, leaves []int
	for page := range len(file) / pageSize {
		switch binary.NativeEndian.Uint16(file[page*pageSize+flagsAt:]) {
		case freelist:
			lists = append(lists, page)
		case leaf:
			leaves = append(leaves, page)
		}
	}
	for _, page := range leaves {
		if alone := salvaged(page); alone < len(want) {
			continue // free, or there is not much without it
		}
		if tried++; tried > 5 {
			break
		}
		if n := salvaged(append(lists, page)...); n != 0 {
			t.Errorf("page %d: %d records salvaged", page, n)
		}
	}
	if tried == 0 {
		t.Error("no page is in use")
	}
}

// A file whose beginning is zeros was a store before the power was lost, as far as
// can be told: it is damaged, and what the other head knows is salvaged.
func TestZeroedFile(t *testing.T) {
	file, want := image(t)
	for zeros, records := range map[int]int{512: len(want), 4096: len(want), len(file): 0} {
		path := tempPath(t)
		damaged := bytes.Clone(file)
		clear(damaged[:zeros])
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := bolt.Open(path); !isCorrupt(err) {
			t.Errorf("%d zeros: Open: %v, want a CorruptError", zeros, err)
			continue
		}
		s := open(t, path, bolt.WithSalvage())
		if sound, bad := load(t, session(t, s, "c")); len(sound) != records || len(bad) > 0 {
			t.Errorf("%d zeros: %d sound and %d damaged records of %d", zeros, len(sound), len(bad), records)
		}
	}
}

func TestEmptyFile(t *testing.T) {
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
	s, outcome := openDamaged(t, path, file)
	if s == nil {
		return outcome
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

// openDamaged opens the file, and where that is refused opens it with salvage; the
// Store is nil where that is refused too.
func openDamaged(t testing.TB, path string, file []byte) (s *bolt.Store, outcome string) {
	t.Helper()
	s, err := bolt.Open(path)
	if err == nil {
		return s, "open"
	}
	if _, ok := errors.AsType[*bolt.FormatError](err); !ok && !isCorrupt(err) {
		t.Errorf("Open: %v, want a CorruptError or a FormatError", err)
	}
	if now, _ := os.ReadFile(path); string(now) != string(file) {
		t.Error("Open failed and changed the file")
	}
	s, err = bolt.Open(path, bolt.WithSalvage())
	if !isFormat(err) && err != nil {
		t.Fatalf("Open with salvage: %v", err)
	}
	if err != nil {
		return nil, "refused"
	}
	if now, _ := os.ReadFile(s.Salvaged().Aside); string(now) != string(file) {
		t.Error("the file that was put aside is not what it was")
	}
	return s, "refused"
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
func TestTruncatedFile(t *testing.T) {
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
func TestFlippedBits(t *testing.T) {
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
func TestDamagedNameOfABucket(t *testing.T) {
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
func TestDamagedWhileOpen(t *testing.T) {
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
