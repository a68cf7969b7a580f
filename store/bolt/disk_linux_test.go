package bolt_test

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/millrace/mqtt/store/bolt"
)

// childLimit fills the file up to a limit of the process, which stands for the
// disk's: growing the file fails.
func childLimit() {
	signal.Ignore(syscall.SIGXFSZ)
	var limit syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	limit.Cur = 3 << 20
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	s, err := bolt.Open(os.Args[1])
	must(err)
	must(fillDisk(s, syscall.EFBIG, func() error {
		limit.Cur = limit.Max
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	}))
	must(s.Close())
}

func TestFileSizeLimitOfTheSystem(t *testing.T) {
	path := tempPath(t)
	if err := child(t, "limit", path).Run(); err != nil {
		t.Fatal(err)
	}
	closed(t, open(t, path))
}

// A file system of 3 MiB is full: writing fails. It takes root to mount one.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "size=3m")
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "sessions.db"))
	if err := fillDisk(s, syscall.ENOSPC, func() error { return os.Remove(ballast) }); err != nil {
		t.Error(err)
	}
	closed(t, s)
	closed(t, open(t, s.Path()))
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "size=3m")
	path := filepath.Join(dir, "sessions.db")
	closed(t, open(t, path))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{path, filepath.Join(dir, "other.db")} {
		if _, err := bolt.Open(path); !errors.Is(err, syscall.EROFS) {
			t.Errorf("Open: %v, want EROFS", err)
		}
	}
}

func mount(t *testing.T, dir, options string) {
	t.Helper()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("mounting takes root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// A file or a directory that may not be written is an error of Open. Root may do
// anything, so the thread looks at files as another user.
func TestNoPermission(t *testing.T) {
	dir, err := os.MkdirTemp("", "millrace") // t.TempDir's parents are closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions.db")
	closed(t, open(t, path))
	if err := errors.Join(os.Chmod(path, 0o444), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getuid() == 0 {
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer syscall.Setfsuid(0)
	}
	for _, path := range []string{path, filepath.Join(dir, "other.db")} {
		if _, err := bolt.Open(path); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Open: %v, want fs.ErrPermission", err)
		}
	}
}

// A new file has the mode that was asked for, less the umask.
func TestFileMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o600, 0o640: 0o640, 0o666: 0o640} {
		path := tempPath(t)
		if mode == 0 {
			closed(t, open(t, path))
		} else {
			closed(t, open(t, path, bolt.WithFileMode(mode)))
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode %v, %v; want %v", info.Mode(), err, want)
		}
	}
}

// A file that is compacted or salvaged keeps its mode and its owner.
func TestFileModeOfARewrittenFile(t *testing.T) {
	for _, r := range rewritings(t)[1:] {
		path := tempPath(t)
		r.start(t, path)
		if err := os.Chmod(path, 0o664); err != nil {
			t.Fatal(err)
		}
		want := uint32(os.Getuid())
		if want == 0 { // only root may give files away
			want = 1234
			if err := os.Chown(path, 1234, 5678); err != nil {
				t.Fatal(err)
			}
		}
		closed(t, open(t, path, r.option))
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o664 || info.Sys().(*syscall.Stat_t).Uid != want {
			t.Errorf("%s: %+v, %v", r.name, info, err)
		}
		if file, err := os.ReadFile(path); err != nil || string(file) == string(r.file) {
			t.Errorf("%s: not rewritten, %v", r.name, err)
		}
	}
}
