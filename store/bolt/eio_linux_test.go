//go:build amd64 || arm64

package bolt_test

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// eioBatch is a batch that makes the file grow, changes records and deletes some.
func eioBatch() (ops []store.Op) {
	for seq := range uint64(40) {
		key := store.Key{Kind: store.Outgoing, Seq: 5 + seq}
		ops = append(ops, put(key.Kind, key.Seq, content(key, 2_000)), put(store.Exchange, key.Seq, nil))
	}
	return append(ops, put(store.Meta, 1, []byte("after")), del(store.Outgoing, 1))
}

// eioStore is a store with a few records, and what is in it.
func eioStore(t *testing.T) (*bolt.Store, store.Session, map[store.Key]string) {
	s := open(t, tempPath(t))
	sess := session(t, s, "c")
	commit(t, sess, put(store.Meta, 1, []byte("before")))
	for seq := range uint64(10) {
		key := store.Key{Kind: store.Outgoing, Seq: seq}
		commit(t, sess, put(key.Kind, key.Seq, content(key, 200)))
	}
	before, _ := load(t, sess)
	return s, sess, before
}

// Each write and each flush of a Commit fails with EIO, in turn. Only after the
// last flush it cannot be told whether the batch is on disk.
func TestEIOInCommit(t *testing.T) {
	s, sess, _ := eioStore(t)
	calls := traced(t, changing, func() { commits(t, nil, sess) })
	after, _ := load(t, sess)
	closed(t, s)
	t.Log(calls)
	if n := len(calls); n < 6 || fmt.Sprint(calls[:2], calls[n-3:]) != "[ftruncate fsync] [fdatasync pwrite fdatasync]" {
		t.Fatalf("a Commit makes the calls %v", calls)
	}
	for n := range calls {
		t.Run(fmt.Sprint(n, " ", calls[n]), func(t *testing.T) {
			s, sess, before := eioStore(t)
			var err error
			failing(t, changing, n, syscall.EIO, func() { err = sess.Commit(eioBatch()) })
			uncertain := n == len(calls)-1
			if !errors.Is(err, syscall.EIO) || errors.Is(err, store.ErrUncertain) != uncertain || !strings.Contains(err.Error(), s.Path()) {
				t.Errorf("Commit: %v", err)
			}
			if uncertain {
				refuses(t, s, sess)
			} else {
				same(t, "after the error", sess, before)
				commit(t, sess, eioBatch()...) // the disk is well again
				same(t, "after the next Commit", sess, after)
			}
			if err := sess.Close(); err != nil {
				t.Errorf("Close of the session: %v", err)
			}
			closed(t, s)
			// Uncertain, but whole: the head is in the file, as far as the system can tell.
			same(t, "in a new process", session(t, open(t, s.Path()), "c"), after)
			onlyFile(t, s.Path())
		})
	}
}

// refuses checks that a Store whose last commit is uncertain says so.
func refuses(t *testing.T, s *bolt.Store, sess store.Session) {
	t.Helper()
	key := []store.Key{{Kind: store.Meta, Seq: 1}}
	_, err := s.Session("another")
	for call, err := range map[string]error{
		"Commit":  sess.Commit([]store.Op{put(store.Meta, 1, nil)}),
		"nothing": sess.Commit(nil),
		"Load":    sess.Load(func(store.Entry) error { return nil }),
		"Read":    sess.Read(key, func(int, []byte) error { return nil }),
		"Session": err,
	} {
		if !errors.Is(err, store.ErrUncertain) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want ErrUncertain and EIO", call, err)
		}
	}
}

// commits commits the batch: want is the error of that, nil for none.
func commits(t *testing.T, want error, sess store.Session) {
	t.Helper()
	if err := sess.Commit(eioBatch()); !errors.Is(err, want) {
		t.Errorf("Commit: %v, want %v", err, want)
	}
}

func same(t *testing.T, when string, sess store.Session, want map[store.Key]string) {
	t.Helper()
	if sound, bad := load(t, sess); len(bad) > 0 || !maps.Equal(sound, want) {
		t.Errorf("%s: %d records and %d damaged, want %d", when, len(sound), len(bad), len(want))
	}
}

// A disk that takes nothing any more: every Commit says so, what is there can be
// read, and everything can be closed.
func TestEIOForGood(t *testing.T) {
	s, sess, before := eioStore(t)
	intercepted(t, changing, func(call) syscall.Errno { return syscall.EIO }, func() {
		for range 5 {
			if err := sess.Commit(eioBatch()); !errors.Is(err, syscall.EIO) || errors.Is(err, store.ErrUncertain) {
				t.Errorf("Commit: %v, want EIO alone", err)
			}
		}
		opens(t, syscall.EIO, filepath.Join(t.TempDir(), "new.db"))
	})
	same(t, "after the errors", sess, before)
	if err := sess.Close(); err != nil {
		t.Errorf("Close of the session: %v", err)
	}
	closed(t, s)
	same(t, "in a new process", session(t, open(t, s.Path()), "c"), before)
}

// The last flush of a commit fails while others wait for theirs: all of them are
// told, none hangs, and what was reported before is there.
func TestEIOReachesEveryCommitThatWaits(t *testing.T) {
	s := open(t, tempPath(t))
	var counts [4]uint64 // commits that succeeded, by session
	commitAll := func(i int) {
		sess, err := s.Session(fmt.Sprint(i))
		for ; err == nil; counts[i]++ {
			if err = sess.Commit([]store.Op{put(store.Meta, counts[i], nil)}); err != nil {
				break
			}
		}
		if !errors.Is(err, store.ErrUncertain) || !errors.Is(err, syscall.EIO) {
			t.Errorf("session %d: %v, want ErrUncertain and EIO", i, err)
		}
	}
	var others sync.WaitGroup
	for i := range len(counts) - 1 {
		others.Go(func() { commitAll(i) })
	}
	flushes := 0
	intercepted(t, []int{unix.SYS_FDATASYNC}, func(call) syscall.Errno {
		if flushes++; flushes == 20 { // two for each commit
			return syscall.EIO
		}
		return 0
	}, func() { commitAll(len(counts) - 1) })
	others.Wait()
	closed(t, s)
	s = open(t, s.Path())
	for i, n := range counts {
		sound, bad := load(t, session(t, s, fmt.Sprint(i)))
		if have := uint64(len(sound)); len(bad) > 0 || have < n || have > n+1 {
			t.Errorf("session %d: %d records and %d damaged after %d commits", i, have, len(bad), n)
		}
	}
	t.Logf("commits: %v", counts)
}

// A damaged record on a disk without room for its copy, or for anything: Load visits
// it, and the sound ones. There is room for its deletion as soon as there is any.
func TestDamagedRecordOnAFullDisk(t *testing.T) {
	for name, full := range map[string][]int{"cannot grow": {unix.SYS_FTRUNCATE}, "cannot be written": {unix.SYS_FTRUNCATE, unix.SYS_PWRITE64}} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			s := open(t, path)
			sess := session(t, s, "c")
			commit(t, sess, put(store.Outgoing, 1, nil), put(store.Outgoing, 2, make([]byte, 900_000)), put(store.Outgoing, 3, nil))
			closed(t, s)
			raw(t, path, func(tx *bbolt.Tx) error {
				b, key := tx.Bucket(recordsBucket(store.Outgoing)), []byte{0, 0, 0, 0, 0, 0, 0, 2}
				return b.Put(key, append([]byte("xxxx"), b.Get(key)[4:]...))
			})
			s = open(t, path)
			sess = session(t, s, "c")
			intercepted(t, full, func(call) syscall.Errno { return syscall.ENOSPC }, func() {
				for n := uint64(0); sess.Commit([]store.Op{put(store.Inbox, n, make([]byte, 50_000))}) == nil; n++ {
				}
				if sound, bad := load(t, sess); len(bad) != 1 || sound[store.Key{Kind: store.Outgoing, Seq: 3}] != "" || len(sound) < 2 {
					t.Errorf("%d sound and %d damaged records", len(sound), len(bad))
				}
			})
			load(t, sess)
			if _, bad := load(t, sess); len(bad) > 0 {
				t.Errorf("%d damaged records stay", len(bad))
			}
		})
	}
}

// A file that cannot be compacted for want of room, or of permission, opens as it is.
func TestCompactionWithoutRoom(t *testing.T) {
	r := rewritings(t)[1]
	for want, number := range map[syscall.Errno]int{syscall.ENOSPC: unix.SYS_FTRUNCATE, syscall.EACCES: unix.SYS_RENAMEAT} {
		path := tempPath(t)
		r.start(t, path)
		intercepted(t, []int{number}, func(call) syscall.Errno { return want }, func() {
			s, err := bolt.Open(path, r.option)
			if err != nil {
				t.Errorf("Open: %v", err)
				return
			}
			if err := s.Uncompacted(); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Uncompacted: %v, want %v", err, want)
			}
			same(t, "not compacted", session(t, s, "c"), r.want)
			closed(t, s)
		})
		onlyFile(t, path)
		s := open(t, path, r.option)
		if err := s.Uncompacted(); err != nil {
			t.Errorf("with room again: %v", err)
		}
		closed(t, s)
	}
}

// A batch that failed is not counted towards the limits.
func TestEIOLeavesTheCount(t *testing.T) {
	s := open(t, tempPath(t), bolt.WithLimits(3, 3))
	sess := session(t, s, "c")
	commit(t, sess, put(store.Outgoing, 1, []byte("a")))
	failing(t, changing, 0, syscall.EIO, func() {
		if err := sess.Commit([]store.Op{del(store.Outgoing, 1), put(store.Outgoing, 2, []byte("bbb"))}); !errors.Is(err, syscall.EIO) {
			t.Errorf("Commit: %v, want EIO", err)
		}
	})
	commit(t, sess, put(store.Outgoing, 3, []byte("c")), put(store.Outgoing, 4, []byte("d")))
	if err := sess.Commit([]store.Op{put(store.Outgoing, 5, nil)}); !errors.Is(err, store.ErrFull) {
		t.Errorf("Commit: %v, want ErrFull", err)
	}
}

// The batches of a group that failed are tried again one by one: what fails one of
// them, or failed once, fails no other.
func TestEIOInAGroup(t *testing.T) {
	s := open(t, tempPath(t))
	stop := make(chan struct{})
	var others sync.WaitGroup
	for i := range 3 {
		sess := session(t, s, fmt.Sprint(i))
		others.Go(func() {
			for n := uint64(0); ; n++ {
				select {
				case <-stop:
					return
				default:
					sess.Commit([]store.Op{put(store.Meta, n, nil)})
				}
			}
		})
	}
	sess := session(t, s, "c")
	var failed atomic.Int64    // errors so far
	first, well := true, false // of the two flushes of a commit; the last commit went well
	intercepted(t, []int{unix.SYS_FDATASYNC}, func(call) syscall.Errno {
		if first && well {
			failed.Add(1)
			well = false
			return syscall.EIO
		}
		well = !first
		first = !first
		return 0
	}, func() {
		for n := uint64(0); n < 2000 && failed.Load() <= s.Stats().Failures; n++ {
			sess.Commit([]store.Op{put(store.Meta, n, nil)})
		}
	})
	close(stop)
	others.Wait()
	if got := s.Stats(); got.Failures >= failed.Load() {
		t.Errorf("%d batches failed by %d errors", got.Failures, failed.Load())
	}
}

// Close waits for the commit in progress: the next one to open the session counts
// what is in it.
func TestCloseWaitsForTheCommit(t *testing.T) {
	s, sess, _ := eioStore(t)
	ended := make(chan error, 1)
	first := true
	intercepted(t, changing, func(call) syscall.Errno {
		if first {
			first = false
			go func() { ended <- sess.Close() }()
			for sess.Commit(nil) == nil { // until Close has begun
				runtime.Gosched()
			}
			if _, err := s.Session("c"); !errors.Is(err, store.ErrInUse) {
				t.Errorf("Session in the middle of a commit: %v, want ErrInUse", err)
			}
		}
		return 0
	}, func() { commits(t, nil, sess) })
	if err := <-ended; err != nil {
		t.Error(err)
	}
	closed(t, s)
}
