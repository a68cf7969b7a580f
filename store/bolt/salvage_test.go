package bolt_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// unlisted returns file without its lists of free pages. The trees are still sound.
func unlisted(file []byte) []byte {
	const pageSize, flagsAt, freelist = 4096, 8, 0x10
	for page := range len(file) / pageSize {
		if b := file[page*pageSize:][flagsAt:]; binary.NativeEndian.Uint16(b) == freelist {
			b[0], b[1] = 0, 0
		}
	}
	return file
}

// unlist damages the file at path like that.
func unlist(t *testing.T, path string) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, unlisted(file), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// copied copies a file as it is now: what a process that is killed leaves.
func copied(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(path))
	file, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(to, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A file that is as full as it may be is salvaged whole, in more than one transaction,
// and is not larger than it may be.
func TestSalvageOfAFullFile(t *testing.T) {
	const limit = 7 << 20 // and no power of two, to which bbolt likes to grow
	path := tempPath(t)
	s := open(t, path, bolt.WithMaxFile(limit))
	keys := fillFile(t, session(t, s, "c"), store.Outgoing, func() int { return 3000 })
	closed(t, s)
	unlist(t, path)
	s = open(t, path, bolt.WithMaxFile(limit), bolt.WithSalvage())
	sound, bad := load(t, session(t, s, "c"))
	if got := s.Salvaged(); got == nil || got.Records != len(keys) || len(sound) != len(keys) || len(bad) > 0 {
		t.Errorf("%d sound and %d damaged records of %d; Salvaged: %+v", len(sound), len(bad), len(keys), got)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > limit {
		t.Errorf("%d bytes, %v; want %d at most", info.Size(), err, limit)
	}
}

// What is set aside after a salvage does not take the place of what was before.
func TestQuarantineNumbersGoOnAfterASalvage(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	for i := range uint64(5) {
		commit(t, sess, put(store.Outgoing, i, []byte("value")))
	}
	closed(t, s)
	spoil := func(seq byte) {
		raw(t, path, func(tx *bbolt.Tx) error {
			return tx.Bucket(recordsBucket(store.Outgoing)).Put([]byte{0, 0, 0, 0, 0, 0, 0, seq}, fmt.Append(nil, "spoilt ", seq))
		})
	}
	for round := range byte(3) {
		spoil(round)
		unlist(t, path)
		s := open(t, path, bolt.WithSalvage())
		load(t, session(t, s, "c"))
		kept, err := s.Quarantine()
		if err != nil || len(kept) != int(round)+1 || kept[round].Number != uint64(round)+1 || string(kept[0].Raw) != "spoilt 0" {
			t.Errorf("round %d: kept %+v, %v", round, kept, err)
		}
		closed(t, s)
	}
}

// What says that a file is ours is damaged: it is salvaged, since it has what else
// ours have.
func TestDamagedFormatIsSalvaged(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, nil))
	closed(t, s)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(file, []byte("millrace"), []byte("lillrace")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path); !isCorrupt(err) {
		t.Errorf("Open: %v, want a CorruptError", err)
	}
	if sound, _ := load(t, session(t, open(t, path, bolt.WithSalvage()), "c")); len(sound) != 1 {
		t.Errorf("%d records, want 1", len(sound))
	}
}

// What was lost is told by every Open, also one without the option and after a
// compaction, until a Store that was asked is closed.
func TestSalvageIsReportedUntilAStoreWasAsked(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, nil), put(store.Outgoing, 2, make([]byte, 2<<20)))
	closed(t, s)
	unlist(t, path)
	s = open(t, path, bolt.WithSalvage())
	commit(t, session(t, s, "c"), del(store.Outgoing, 2))
	closed(t, s) // no call asked
	s = open(t, path, bolt.WithCompaction())
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Errorf("not compacted: %d bytes, %v", info.Size(), err)
	}
	got := s.Salvaged()
	if got == nil || got.Records != 2 || !strings.Contains(got.Problem, "free pages") {
		t.Fatalf("Salvaged: %+v", got)
	}
	if _, err := os.Stat(got.Aside); err != nil {
		t.Error(err)
	}
	killed := copied(t, path)
	closed(t, s)
	if again := open(t, killed).Salvaged(); again == nil || again.Problem != got.Problem {
		t.Errorf("after a process was killed: %+v", again)
	}
	if got := open(t, path).Salvaged(); got != nil {
		t.Errorf("told and closed, and then %+v", got)
	}
}

// A second salvage tells of the first, which no call was told of.
func TestSalvageReportsTheOneBefore(t *testing.T) {
	path := tempPath(t)
	closed(t, open(t, path))
	var first *bolt.Salvage
	for range 2 {
		unlist(t, path)
		s := open(t, path, bolt.WithSalvage())
		if first == nil {
			first = open(t, copied(t, path)).Salvaged()
		} else if got := s.Salvaged(); got == nil || !strings.Contains(got.Problem, filepath.Base(first.Aside)) {
			t.Errorf("Salvaged: %+v, want a word on %s", got, first.Aside)
		}
		closed(t, s)
	}
}
