// Files as a whole: making one, replacing one, and names that stay.

package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// create makes an empty store at path unless a file is there. A crash leaves no
// half-made file under that name: an empty one is damage, not a beginning. Open flushes
// the name, whoever gave it.
func (c *config) create(path string) error {
	temp, err := c.build(path, nil, func(*bbolt.DB) error { return nil })
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	// A link, unlike a rename, does not replace what another process just made.
	err = os.Link(temp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		err = c.renameNew(temp, path) // a file system without links
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		// Another process made the file meanwhile, opened it and swept ours away.
		if _, gone := os.Stat(path); gone == nil {
			return nil
		}
	}
	return err
}

// build makes a store beside path with what fill puts into it, on disk when it
// returns, and returns its name. It is to replace old, if that is not nil.
func (c *config) build(path string, old fs.FileInfo, fill func(*bbolt.DB) error) (temp string, err error) {
	f, err := newBeside(path, c.mode, old)
	if err != nil {
		return "", err
	}
	temp = f.Name()
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if err := f.Close(); err != nil {
		return "", err
	}
	options := c.bboltOptions()
	options.NoSync = true // one flush at the end
	db, err := bbolt.Open(temp, c.mode, options)
	if err != nil {
		return "", err
	}
	db.AllocSize = c.growth()
	err = guard(temp, func() error {
		if err := db.Update(writeFormat); err != nil {
			return err
		}
		if err := fill(db); err != nil {
			return err
		}
		return db.Sync()
	})
	if isCorrupt(err) {
		return "", err // bbolt may hold its locks, so that Close would hang
	}
	return temp, errors.Join(err, db.Close())
}

// newBeside makes an empty file beside path, for those who may use old, or with mode
// where there is none.
func newBeside(path string, mode fs.FileMode, old fs.FileInfo) (*os.File, error) {
	if old != nil {
		mode = defaultMode // until it has its owner
	}
	for {
		f, err := os.OpenFile(path+newInfix+strconv.FormatUint(rand.Uint64(), 10), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil || old == nil:
			return f, err
		}
		if err := errors.Join(giveTo(f, old), f.Chmod(old.Mode().Perm())); err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
		return f, nil
	}
}

// unreplaced returns an error that wraps ErrInUse when the open file has not, or
// no longer, the name path, or is not the one that was seen before: another process
// put a new one in its place.
func unreplaced(path string, file *os.File, seen ...fs.FileInfo) error {
	held, err := file.Stat()
	now, err2 := os.Stat(path)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("bolt: %w", err)
	}
	for _, other := range append(seen, now) {
		if !os.SameFile(held, other) {
			return fmt.Errorf("%w: the file %s, which was just replaced", store.ErrInUse, path)
		}
	}
	return nil
}

// asideName returns the second name that a file at path is to have, or has.
func asideName(path string) string {
	if aside := asideBefore(path); aside != "" {
		return aside
	}
	return path + damagedInfix + time.Now().UTC().Format("20060102T150405.000000000Z")
}

// putAside gives the file its second name, and leaves it its own: a crash before it
// is replaced must not look like a file that never was.
func putAside(path, aside string) error {
	if asideBefore(path) == aside || os.Link(path, aside) == nil {
		return syncDir(path)
	}
	if err := copyFile(aside, path); err != nil { // a file system without links
		return err
	}
	return syncDir(path)
}

// copyFile makes the file to, whole or not at all.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := newBeside(from, 0, info)
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// syncDir makes the names in path's directory durable. Windows has no such call
// and does not need it.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// resolve follows symbolic links, so that a made or replaced file is the one they mean.
func resolve(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("bolt: %w", err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	dir, err2 := filepath.EvalSymlinks(filepath.Dir(path))
	if !errors.Is(err, fs.ErrNotExist) || err2 != nil {
		return "", fmt.Errorf("bolt: %w", err)
	}
	// There is no file yet, or path is a link to none.
	path = filepath.Join(dir, filepath.Base(path))
	target, err := os.Readlink(path)
	if err != nil {
		return path, nil
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	return resolve(target)
}
