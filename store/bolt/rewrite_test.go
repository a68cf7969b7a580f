package bolt_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// rewriting is a file that Open makes anew, with all of its records.
type rewriting struct {
	name   string
	file   []byte // nil for none
	option bolt.Option
	want   map[store.Key]string // of client c
	aside  int                  // files that stay beside it
	copies bool                 // there may be more of those, one for each try
}

// rewritings are the ways to it.
func rewritings(t *testing.T) []rewriting {
	wasteful, left := wastefulImage(t)
	damaged, records := image(t)
	return []rewriting{
		{"creation", nil, bolt.WithLimits(0, 0), nil, 0, false},
		{"compaction", wasteful, bolt.WithCompaction(), left, 0, false},
		{"salvage", unlisted(damaged), bolt.WithSalvage(), records, 1, false},
	}
}

// wastefulImage is a file that is due for compaction.
func wastefulImage(t *testing.T) (file []byte, records map[store.Key]string) {
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	for i := range uint64(40) {
		key := store.Key{Kind: store.Outgoing, Seq: i}
		commit(t, sess, put(key.Kind, key.Seq, content(key, 40_000)), put(store.Exchange, i, nil))
	}
	for i := range uint64(30) {
		commit(t, sess, del(store.Outgoing, i), del(store.Exchange, i))
	}
	records, _ = load(t, sess)
	closed(t, s)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, records
}

// start puts the file that is to be rewritten at path, in an empty directory.
func (r *rewriting) start(t *testing.T, path string) {
	t.Helper()
	removeAll(t, filepath.Dir(path))
	if r.file == nil {
		return
	}
	if err := os.WriteFile(path, r.file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// finish opens the file, whatever state it was left in, and checks that the
// records are there and nothing is left beside it. It reports whether it had been
// rewritten before.
func (r *rewriting) finish(t *testing.T, path string) (rewritten bool) {
	t.Helper()
	found, err := os.ReadFile(path)
	rewritten = err == nil && string(found) != string(r.file)
	s := open(t, path, r.option)
	sound, bad := load(t, session(t, s, "c"))
	if len(bad) > 0 || !maps.Equal(sound, r.want) {
		t.Errorf("%d records and %d damaged, want %d", len(sound), len(bad), len(r.want))
	}
	if told := s.Salvaged() != nil; told != (r.aside > 0) {
		t.Errorf("Salvaged: %+v", s.Salvaged())
	}
	closed(t, s)
	entries, err := os.ReadDir(filepath.Dir(path))
	if n := len(entries) - 1; err != nil || n < r.aside || n > r.aside && !r.copies {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	for _, e := range entries[1:] {
		aside := filepath.Join(filepath.Dir(path), e.Name())
		if b, err := os.ReadFile(aside); !strings.HasPrefix(e.Name(), "sessions.db.damaged-") || err != nil || string(b) != string(r.file) {
			t.Errorf("%s is not the damaged file", aside)
		}
	}
	return rewritten
}
