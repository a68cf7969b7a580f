//go:build darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd

package bolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"
)

const lockRetry = 10 * time.Millisecond

// lock takes the lock that bbolt takes, on a file that bbolt may not be able to
// open.
func lock(f *os.File, wait time.Duration) error {
	for deadline := time.Now().Add(wait); ; time.Sleep(lockRetry) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return err
		case time.Now().After(deadline):
			return bolterrors.ErrTimeout
		}
	}
}

// unlock lets go of the lock by name: a mapping that was left keeps the open file
// alive, and the lock with it.
func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// renameNew renames a file unless there is one with the new name. Those who make one
// hold the directory's lock meanwhile.
func (c *config) renameNew(from, to string) error {
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := lock(dir, c.lockWait); err != nil {
		return err
	}
	if _, err := os.Lstat(to); err == nil {
		return fs.ErrExist
	}
	return os.Rename(from, to)
}
