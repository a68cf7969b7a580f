//go:build amd64 || arm64

package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// What a process finds may be the batch of one that was killed before its last
// flush, or had an error from it: it must not be relied on before it is flushed.
func TestOpenFlushesTheRecordsItFinds(t *testing.T) {
	s, sess, _ := eioStore(t)
	calls := traced(t, changing, func() { commits(t, nil, sess) })
	closed(t, s)
	s, sess, _ = eioStore(t)
	failing(t, changing, len(calls)-1, syscall.EIO, func() { commits(t, store.ErrUncertain, sess) })
	closed(t, s)
	// The head, so that the system counts it as not yet written, its flush, and that of
	// the directory.
	calls = traced(t, changing, func() { opens(t, nil, s.Path()) })
	if fmt.Sprint(calls) != "[pwrite fsync fsync]" || calls[0].args[3] > 4096 {
		t.Errorf("Open makes the calls %v", calls)
	}
	for n := range calls {
		failing(t, changing, n, syscall.EIO, func() { opens(t, syscall.EIO, s.Path()) })
	}
}

// A process dies after it gave a file its name, and before the name is durable: the
// next Open flushes the directory before the file is relied on.
func TestOpenFlushesTheName(t *testing.T) {
	for _, r := range rewritings(t) {
		t.Run(r.name, func(t *testing.T) {
			path := tempPath(t)
			r.start(t, path)
			flushes := func(c call) bool {
				name, err := os.Readlink(fmt.Sprint("/proc/self/fd/", c.args[0]))
				return err == nil && name == filepath.Dir(path)
			}
			named := false
			intercepted(t, []int{unix.SYS_FSYNC, unix.SYS_LINKAT, unix.SYS_RENAMEAT}, func(c call) syscall.Errno {
				named = named || c.number != unix.SYS_FSYNC
				if named && c.number == unix.SYS_FSYNC && flushes(c) {
					return syscall.EIO
				}
				return 0
			}, func() { opens(t, syscall.EIO, path, r.option) })
			flushed := false
			intercepted(t, []int{unix.SYS_FSYNC}, func(c call) syscall.Errno {
				flushed = flushed || flushes(c)
				return 0
			}, func() { opens(t, nil, path, r.option) })
			if !flushed {
				t.Error("the directory was not flushed")
			}
		})
	}
}

// A file system without hard links: the one that makes the file a little later than another
// process leaves that one's alone.
func TestCreationWithoutLinksReplacesNothing(t *testing.T) {
	path := tempPath(t)
	var first *bolt.Store
	var sess store.Session
	intercepted(t, []int{unix.SYS_LINKAT, unix.SYS_OPENAT}, func(c call) syscall.Errno {
		switch {
		case c.number == unix.SYS_LINKAT:
			return syscall.EPERM
		case c.args[2]&unix.O_EXCL != 0 && first == nil: // the later one begins its file
			first = open(t, path)
			sess = session(t, first, "c")
			commit(t, sess, put(store.Outgoing, 1, nil))
		}
		return 0
	}, func() {
		if _, err := bolt.Open(path, bolt.WithLockTimeout(60*time.Millisecond)); !errors.Is(err, store.ErrInUse) {
			t.Errorf("Open: %v, want ErrInUse", err)
		}
	})
	commit(t, sess, put(store.Outgoing, 2, nil))
	closed(t, first)
	if sound, _ := load(t, session(t, open(t, path), "c")); len(sound) != 2 {
		t.Errorf("%d of 2 records that were reported durable", len(sound))
	}
	onlyFile(t, path)
}

// bbolt stumbles over damage that came after the file was checked: Open lets go of it
// all the same, as the file may be put right.
func TestDamagedWhileOpening(t *testing.T) {
	path := tempPath(t)
	closed(t, open(t, path))
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	intercepted(t, []int{unix.SYS_FLOCK}, func(c call) syscall.Errno {
		if c.args[1]&unix.LOCK_EX != 0 {
			unlist(t, path)
		}
		return 0
	}, func() {
		if _, err := bolt.Open(path); !isCorrupt(err) {
			t.Errorf("Open: %v, want a CorruptError", err)
		}
	})
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	closed(t, open(t, path, bolt.WithLockTimeout(60*time.Millisecond)))
}

// Each write, flush and renaming of an Open that makes, compacts or salvages a
// file fails with EIO, in turn, also where a file cannot have two names: Open says
// so, and the next one has everything.
func TestEIOInOpen(t *testing.T) {
	for _, r := range rewritings(t) {
		for _, links := range []bool{true, false} {
			t.Run(fmt.Sprint(r.name, ", links ", links), func(t *testing.T) { eioInOpen(t, r, links) })
		}
	}
}

func eioInOpen(t *testing.T, r rewriting, links bool) {
	r.copies = !links
	path := tempPath(t)
	open := func(n int, want error) (made []call) {
		r.start(t, path)
		intercepted(t, changing, func(c call) syscall.Errno {
			made = append(made, c)
			switch {
			case c.number == unix.SYS_LINKAT && !links:
				return syscall.EPERM
			case len(made) == n+1:
				return syscall.EIO
			}
			return 0
		}, func() { opens(t, want, path, r.option) })
		return made
	}
	calls := open(-1, nil)
	t.Log(len(calls), "calls, at the end", calls[max(0, len(calls)-12):])
	for n, c := range calls {
		if c.number == unix.SYS_LINKAT {
			continue // then there is another way
		}
		inRun := n > 0 && n+1 < len(calls) && calls[n-1].number == c.number && calls[n+1].number == c.number
		if inRun && !chance.Long() {
			continue
		}
		open(n, syscall.EIO)
		r.finish(t, path)
		if t.Failed() {
			t.Fatalf("call %d, %v", n, c)
		}
	}
}

// Each read of an Open fails with EIO, in turn. What cannot be read is not known
// to be damaged: nothing is salvaged.
func TestEIOInReadingAtOpen(t *testing.T) {
	s, _, _ := eioStore(t)
	closed(t, s)
	before, err := os.ReadFile(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	calls := traced(t, reading, func() { opens(t, nil, s.Path(), bolt.WithSalvage()) })
	refused := 0
	for n := range calls {
		failing(t, reading, n, syscall.EIO, func() {
			again, err := bolt.Open(s.Path(), bolt.WithSalvage())
			switch {
			case errors.Is(err, syscall.EIO):
				refused++
			case err != nil:
				t.Errorf("Open: %v, want nil or EIO", err)
			default: // bbolt takes the page size from the other head
				again.Close()
			}
		})
		onlyFile(t, s.Path())
		if after, err := os.ReadFile(s.Path()); err != nil || string(after) != string(before) {
			t.Errorf("the file was changed, %v", err)
		}
		if t.Failed() {
			t.Fatalf("read %d at %d", n, calls[n].args[3])
		}
	}
	if t.Logf("%d of %d reads", refused, len(calls)); refused < len(calls)-2 {
		t.Errorf("Open went on after errors of other reads than bbolt's two")
	}
}

// Reads fail with EIO while a file is compacted or salvaged: what cannot be read
// is not left out of the new file.
func TestEIOInReadingToRewrite(t *testing.T) {
	rnd := chance.Rand(t)
	for _, r := range rewritings(t)[1:] {
		t.Run(r.name, func(t *testing.T) {
			path := tempPath(t)
			r.start(t, path)
			calls := traced(t, reading, func() { opens(t, nil, path, r.option) })
			step := chance.Rounds(1+len(calls)/25, 1)
			refused, tries := 0, 0
			for n := rnd.IntN(step); n < len(calls); n += step {
				r.start(t, path)
				failing(t, reading, n, syscall.EIO, func() {
					s, err := bolt.Open(path, r.option)
					switch {
					case errors.Is(err, syscall.EIO):
						refused++
					case err != nil:
						t.Errorf("Open: %v, want nil or EIO", err)
					default:
						s.Close()
					}
				})
				tries++
				r.finish(t, path)
				if t.Failed() {
					t.Fatalf("read %d at %d", n, calls[n].args[3])
				}
			}
			t.Logf("%d of %d reads tried, %d refused", tries, len(calls), refused)
		})
	}
}

// opens opens the file and closes it: want is the error of that, nil for none.
func opens(t *testing.T, want error, path string, opts ...bolt.Option) {
	t.Helper()
	s, err := bolt.Open(path, opts...)
	if err == nil {
		err = s.Close()
	}
	if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), filepath.Base(path)) {
		t.Errorf("Open: %v, want %v", err, want)
	}
}

// A file that is made, compacted or salvaged is on disk before it has its name, and
// the name is before anything goes on; the damaged one as well, where it is copied.
func TestRewritingIsDurable(t *testing.T) {
	for _, r := range rewritings(t) {
		for links, want := range map[bool]map[string]string{
			true: {
				"creation":   "fdatasync link pwrite fsync fsync",
				"compaction": "fdatasync rename pwrite fsync fsync",
				"salvage":    "fdatasync link fsync rename pwrite fsync fsync",
			},
			false: {
				"creation":   "fdatasync rename pwrite fsync fsync",
				"compaction": "fdatasync rename pwrite fsync fsync",
				"salvage":    "fdatasync fchmod fsync rename fsync rename pwrite fsync fsync",
			},
		} {
			path := tempPath(t)
			r.start(t, path)
			var made []string
			intercepted(t, changing, func(c call) syscall.Errno {
				if c.number == unix.SYS_LINKAT && !links {
					return syscall.EPERM
				}
				made = append(made, c.String())
				return 0
			}, func() { opens(t, nil, path, r.option) })
			if got := strings.Join(made, " "); !strings.HasSuffix(got, "pwrite "+want[r.name]) {
				t.Errorf("%s, links %t: %s, want at the end %s", r.name, links, got, want[r.name])
			}
		}
	}
}

// Whatever another process does with the file when Open is about to open or lock it:
// Open fails, or has the file that has the name. It goes on with none that is gone,
// makes no empty one in its place, and takes none that grew for a cut one.
func TestFileChangesBesideOpen(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"replaced": func(path string) error {
			b, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path+".copy", b, 0o600), os.Rename(path+".copy", path))
		},
		"removed": os.Remove,
		"grown": func(path string) error {
			return commitOnce(path, bolt.WithLimits(0, 0), put(store.Inbox, 1, make([]byte, 1<<20)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n, locked := -1, 0; n < locked; n++ { // at first nothing happens
				path := tempPath(t)
				if err := commitOnce(path, bolt.WithLimits(0, 0), put(store.Meta, 1, nil)); err != nil {
					t.Fatal(err)
				}
				var err error
				calls := 0
				intercepted(t, []int{unix.SYS_OPENAT, unix.SYS_FLOCK}, func(c call) syscall.Errno {
					if n < 0 && c.number == unix.SYS_FLOCK && c.args[1]&syscall.LOCK_EX != 0 {
						locked = calls + 1 // with the last call so far
					}
					if calls++; calls == n+1 {
						if err := change(path); err != nil && !errors.Is(err, store.ErrInUse) {
							t.Error(err)
						}
					}
					return 0
				}, func() { err = commitOnce(path, bolt.WithSalvage(), put(store.Meta, 2, nil)) })
				_, gone := os.Stat(path)
				switch {
				case err == nil && gone == nil:
					if sound, bad := load(t, session(t, open(t, path), "c")); len(sound) < 2 || len(bad) > 0 {
						t.Errorf("call %d: %d sound and %d damaged records", n, len(sound), len(bad))
					}
					onlyFile(t, path) // nothing was salvaged
				case err == nil:
					t.Errorf("call %d: Open went on with a file that is gone", n)
				case err != nil && !errors.Is(err, store.ErrInUse) && !(gone != nil && errors.Is(err, os.ErrNotExist)):
					t.Errorf("call %d: %v", n, err)
				}
			}
		})
	}
}
