package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
	"github.com/millrace/mqtt/store/storetest"
)

func TestStore(t *testing.T) {
	path := tempPath(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := bolt.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, storetest.Options{
		OpenLimited: func(t *testing.T, limits store.Limits) store.Store {
			return open(t, tempPath(t), bolt.WithLimits(limits.Messages, limits.Bytes))
		},
	})
}

// Batches that come while a commit is in progress share the next one.
func TestGroupCommit(t *testing.T) {
	const sessions, batches = 16, 20
	s := open(t, tempPath(t))
	var all sync.WaitGroup
	for i := range sessions {
		sess := session(t, s, fmt.Sprint(i))
		all.Go(func() {
			for j := range uint64(batches) {
				if err := sess.Commit([]store.Op{put(store.Outgoing, j, []byte("x"))}); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	all.Wait()
	got := s.Stats()
	t.Logf("%+v", got)
	if got.Batches != sessions*batches || got.Failures != 0 || got.Commits >= got.Batches/2 {
		t.Errorf("%+v: want %d batches in less than half as many commits", got, sessions*batches)
	}
}

// One session may have several batches on their way too: they are carried out in
// some order, each whole.
func TestGroupCommitOneSession(t *testing.T) {
	const callers, batches = 16, 20
	s := open(t, tempPath(t))
	sess := session(t, s, "c")
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := range batches {
				seq := uint64(i*batches + j)
				if err := sess.Commit([]store.Op{put(store.Outgoing, seq, nil), put(store.Exchange, seq, nil)}); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	all.Wait()
	if sound, _ := load(t, sess); len(sound) != 2*callers*batches {
		t.Errorf("%d records, want %d", len(sound), 2*callers*batches)
	}
}

// A batch that is refused does not fail those it shares a commit with.
func TestGroupCommitRefusesAlone(t *testing.T) {
	const sessions, batches, limit = 8, 20, 10
	s := open(t, tempPath(t), bolt.WithLimits(limit, 0))
	var all sync.WaitGroup
	for i := range sessions {
		sess := session(t, s, fmt.Sprint(i))
		all.Go(func() {
			for j := range uint64(batches) {
				err := sess.Commit([]store.Op{put(store.Exchange, j, nil), put(store.Outgoing, j, nil)})
				if j < limit && err != nil || j >= limit && !errors.Is(err, store.ErrFull) {
					t.Errorf("batch %d: %v", j, err)
				}
			}
			if sound, _ := load(t, sess); len(sound) != 2*limit {
				t.Errorf("%d records, want %d", len(sound), 2*limit)
			}
		})
	}
	all.Wait()
	if got := s.Stats(); got.Batches != sessions*limit || got.Failures != sessions*(batches-limit) {
		t.Errorf("%+v", got)
	}
}

// The size limit holds for the file; what was accepted stays, deletions work, and
// then there is room again.
func TestMaxFile(t *testing.T) {
	for size, limit := range map[int]int64{100: 1 << 20, 3000: 1 << 20, 30_000: 4 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := tempPath(t)
			s := open(t, path, bolt.WithMaxFile(limit))
			sess := session(t, s, "c")
			value := make([]byte, size)
			next, first := uint64(0), uint64(0)
			fill := func() (added int) {
				for ; ; added++ {
					ops := make([]store.Op, max(1, 20_000/size))
					for i := range ops {
						ops[i] = put(store.Outgoing, next+uint64(i), value)
					}
					err := sess.Commit(ops)
					if errors.Is(err, store.ErrFull) {
						return added
					}
					if err != nil {
						t.Fatalf("Commit: %v", err)
					}
					next += uint64(len(ops))
				}
			}
			for round := range 2 {
				if fill() == 0 {
					t.Fatal("no room")
				}
				info, err := os.Stat(path)
				if err != nil || info.Size() > limit {
					t.Fatalf("%d bytes, %v; want %d at most", info.Size(), err, limit)
				}
				sound, bad := load(t, sess)
				if len(sound) != int(next-first) || len(bad) != 0 {
					t.Fatalf("round %d: %d records and %d damaged, want %d", round, len(sound), len(bad), next-first)
				}
				if int64(len(sound)*size) < limit*2/5 {
					t.Errorf("round %d: only %d bytes fit", round, len(sound)*size)
				}
				for first < next { // what is owed for a message still goes in
					commit(t, sess, del(store.Outgoing, first), put(store.Exchange, first%100, nil))
					if first++; first%50 == 0 {
						break
					}
				}
				var ops []store.Op
				for ; first < next; first++ {
					ops = append(ops, del(store.Outgoing, first))
				}
				for seq := range uint64(100) {
					ops = append(ops, del(store.Exchange, seq))
				}
				commit(t, sess, ops...)
			}
		})
	}
}

func TestCompaction(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	for i := range uint64(40) {
		key := store.Key{Kind: store.Outgoing, Seq: i}
		commit(t, sess, put(key.Kind, key.Seq, content(key, 100_000)))
	}
	for i := range uint64(30) {
		commit(t, sess, del(store.Outgoing, i))
	}
	comeAndGo(t, s, "gone", allKinds...)
	path = copied(t, path) // with what was not released
	closed(t, s)
	before, _ := os.Stat(path)
	s = open(t, path, bolt.WithCompaction())
	after, _ := os.Stat(path)
	if after.Size() > before.Size()/2 {
		t.Errorf("%d bytes of %d after the compaction", after.Size(), before.Size())
	}
	sound, bad := load(t, session(t, s, "c"))
	if len(sound) != 10 || len(bad) != 0 {
		t.Fatalf("%d records and %d damaged, want 10", len(sound), len(bad))
	}
	for key, value := range sound {
		if value != string(content(key, 100_000)) {
			t.Errorf("record %s is not what was put", key)
		}
	}
	closed(t, s)
	if got := bucketsIn(t, path); len(got) != 1 {
		t.Errorf("empty buckets came along: %q", got)
	}
	closed(t, open(t, path, bolt.WithCompaction())) // nothing to do
	onlyFile(t, path)
}

// onlyFile checks that nothing else was left in the directory.
func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestCloseWithSessionsOpen(t *testing.T) {
	s := open(t, tempPath(t))
	sess := session(t, s, "c")
	commit(t, sess, put(store.Outgoing, 1, nil))
	closed(t, s)
	closed(t, s)
	if err := sess.Commit([]store.Op{put(store.Outgoing, 2, nil)}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit: %v, want ErrClosed", err)
	}
	if err := sess.Load(func(store.Entry) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Load: %v, want ErrClosed", err)
	}
	if _, err := s.Session("d"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Session: %v, want ErrClosed", err)
	}
}

// Close comes in the middle of commits: each is either on disk or has an error.
func TestCloseBesideCommits(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	var committed sync.Map
	var all, started sync.WaitGroup
	for i := range 8 {
		sess := session(t, s, fmt.Sprint(i))
		started.Add(1)
		all.Go(func() {
			for j := uint64(0); ; j++ {
				err := sess.Commit([]store.Op{put(store.Outgoing, j, nil)})
				if j == 0 {
					started.Done()
				}
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Commit: %v, want ErrClosed", err)
					}
					committed.Store(i, int(j))
					return
				}
			}
		})
	}
	started.Wait()
	closed(t, s)
	all.Wait()
	s = open(t, path)
	for i := range 8 {
		want, _ := committed.Load(i)
		if sound, _ := load(t, session(t, s, fmt.Sprint(i))); len(sound) != want {
			t.Errorf("session %d has %d records, want %d", i, len(sound), want)
		}
	}
}

// A session that is above limits which were lowered can be emptied, not filled.
func TestLimitsLowered(t *testing.T) {
	for _, option := range []bolt.Option{bolt.WithLimits(2, 0), bolt.WithLimits(0, 2)} {
		path := tempPath(t)
		s := open(t, path)
		sess := session(t, s, "c")
		for seq := range uint64(5) {
			commit(t, sess, put(store.Outgoing, seq, []byte("x")))
		}
		closed(t, s)
		sess = session(t, open(t, path, option), "c")
		full := func(ops ...store.Op) {
			t.Helper()
			if err := sess.Commit(ops); !errors.Is(err, store.ErrFull) {
				t.Errorf("Commit: %v, want ErrFull", err)
			}
		}
		full(put(store.Outgoing, 5, []byte("x")))
		commit(t, sess, put(store.Outgoing, 5, []byte("x")), del(store.Outgoing, 0)) // as much as before
		for seq := uint64(1); seq < 4; seq++ {
			commit(t, sess, del(store.Outgoing, seq))
			full(put(store.Outgoing, 6, []byte("x")))
		}
		commit(t, sess, del(store.Outgoing, 4))
		commit(t, sess, put(store.Outgoing, 6, []byte("x")))
		full(put(store.Outgoing, 7, []byte("x")))
	}
}
