// Compaction: the same records in a new file without free pages.

package bolt

import (
	"cmp"
	"errors"
	"os"
	"runtime"

	"go.etcd.io/bbolt"
)

const compactAbove = 1 << 20 // bytes of a file worth the trouble

// wasteful reports whether more than half of the file is free.
func (im *image) wasteful() bool {
	return int64(im.head.pages)*im.head.pageSize > compactAbove && uint64(im.free) > im.head.pages/2
}

// Uncompacted returns why Open left a file as it was that was due for
// [WithCompaction], nil when it did not.
func (s *Store) Uncompacted() error { return s.uncompacted }

// compactFile replaces the file at path. Its lock is held until the new one has
// its name, so that nobody commits to the old one meanwhile.
func (c *config) compactFile(path string) error {
	old, file, err := c.openLocked(path, false)
	if err != nil {
		return err
	}
	closed := false
	closeOld := func() error {
		if closed {
			return nil
		}
		closed = true
		return old.Close()
	}
	defer closeOld()
	info, err := file.Stat()
	if err != nil {
		return c.explained(path, err)
	}
	temp, err := c.build(path, info, func(db *bbolt.DB) error {
		src := &source{ReaderAt: file}
		h, err := readHead(src)
		if err := cmp.Or(src.err, err); err != nil {
			return err
		}
		w := &walker{image: newImage(src, h), order: true, damage: func(err error) error { return err }}
		_, err = copyRecords(db, w)
		return err
	})
	if err != nil {
		return c.explained(path, err)
	}
	defer os.Remove(temp)
	if runtime.GOOS == "windows" {
		err = closeOld() // an open file cannot be replaced there
	}
	return c.explained(path, errors.Join(err, os.Rename(temp, path)))
}
