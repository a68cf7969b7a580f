package bolt_test

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"maps"
	"os"
	"testing"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// earlierFile puts a file of format 1 as its first version wrote it at path, and
// returns what is in it for client c.
func earlierFile(t *testing.T, path string) (records map[store.Key]string) {
	t.Helper()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the file is of a machine with the other byte order")
	}
	packed, err := os.Open("testdata/format1.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(z)
	if err == nil {
		err = os.WriteFile(path, file, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	records = make(map[store.Key]string)
	for _, kind := range []store.Kind{store.Meta, store.Outgoing, store.Exchange, store.Incoming, store.Inbox} {
		for i := uint64(10); i < 30; i++ {
			key := store.Key{Kind: kind, Seq: i}
			records[key] = string(content(key, int(i*37%500)))
		}
	}
	return records
}

// A file of an earlier version opens, with all its records and what it had set aside,
// is used on, and rewritten.
func TestFileOfAnEarlierVersion(t *testing.T) {
	path := tempPath(t)
	want := earlierFile(t, path)
	for range 3 {
		s := open(t, path, bolt.WithCompaction(), bolt.WithSalvage())
		if info, err := os.Stat(path); err != nil || info.Size() >= 1<<20 {
			t.Errorf("%d bytes, %v; want less than a MiB", info.Size(), err)
		}
		sess := session(t, s, "c")
		if sound, bad := load(t, sess); len(bad) > 0 || !maps.Equal(sound, want) {
			t.Errorf("%d records and %d damaged, want %d", len(sound), len(bad), len(want))
		}
		if kept, err := s.Quarantine(); err != nil || len(kept) != 1 || string(kept[0].Raw) != "spoilt" || s.Salvaged() != nil {
			t.Errorf("Quarantine: %v, %v; Salvaged: %+v", kept, err, s.Salvaged())
		}
		key := store.Key{Kind: store.Outgoing, Seq: uint64(100 + len(want))}
		want[key] = string(content(key, 1<<20))
		commit(t, sess, put(key.Kind, key.Seq, content(key, 1<<20)))
		commit(t, sess, put(key.Kind, key.Seq, []byte("small")))
		want[key] = "small"
		closed(t, s)
	}
}
