// Compaction: the same records in a new file without free pages.

package bolt

import (
	"errors"
	"os"
	"runtime"

	"go.etcd.io/bbolt"
)

const (
	compactAbove = 1 << 20 // bytes of a file worth the trouble
	compactBatch = 4 << 20 // bytes in a transaction
)

// wasteful reports whether more than half of the file is free.
func (im *image) wasteful() bool {
	return int64(im.head.pages)*im.head.pageSize > compactAbove && uint64(im.free) > im.head.pages/2
}

// compactFile replaces the file at path. Its lock is held until the new one has
// its name, so that nobody commits to the old one meanwhile.
func (c *config) compactFile(path string) error {
	old, _, err := c.openLocked(path, false)
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
	temp, err := c.build(path, func(db *bbolt.DB) error {
		// Compact makes all buckets itself.
		drop := func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(infoBucket)) }
		if err := db.Update(drop); err != nil {
			return err
		}
		return guard(path, func() error { return bbolt.Compact(db, old, compactBatch) })
	})
	if err != nil {
		return c.explained(path, err)
	}
	defer os.Remove(temp)
	if runtime.GOOS == "windows" {
		err = closeOld() // an open file cannot be replaced there
	}
	return c.explained(path, errors.Join(err, replace(temp, path)))
}
