package bolt_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
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

// A file that is as full as it may be is salvaged whole, in more than one transaction,
// and is not larger than it may be.
func TestB22_SalvageOfAFullFile(t *testing.T) {
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
func TestB22_QuarantineNumbersGoOnAfterASalvage(t *testing.T) {
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
func TestB22_DamagedFormatIsSalvaged(t *testing.T) {
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
