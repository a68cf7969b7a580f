// Errors: what is wrong with a file, and the system's error within bbolt's.

package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/millrace/mqtt/store"
)

// CorruptError says that the pages of a file are damaged, so that what is in it
// cannot be told, or not all of it. The file was left as it is.
type CorruptError struct {
	Path    string // of the file
	Problem string // the first damage that was found
}

// Error describes the damage.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("bolt: the file %s is damaged: %s", e.Path, e.Problem)
}

func isCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// FormatError says that a file is not a store of sessions, or one that a newer
// version of this package wrote. It was left as it is, also with [WithSalvage].
type FormatError struct {
	Path    string // of the file
	Problem string // what the file is instead
}

// Error says what the file is.
func (e *FormatError) Error() string {
	return fmt.Sprintf("bolt: the file %s cannot be used as a store of sessions: %s", e.Path, e.Problem)
}

// SizeError says that a Commit was refused for a record that is too large, for
// the file or for any. It wraps [store.ErrFull], but waiting for room is of no use.
type SizeError struct {
	Path    string    // of the file
	Key     store.Key // of the record
	Size    int64     // of its value, in bytes
	Largest int64     // that it may have, see [WithMaxFile]
}

// Error says how large the record is and how large it may be.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: record %s has %d bytes: %d are the most that can be kept in the file %s and be deleted again for sure",
		store.ErrFull, e.Key, e.Size, e.Largest, e.Path)
}

// Unwrap returns [store.ErrFull].
func (e *SizeError) Unwrap() error { return store.ErrFull }

// explained adds to an error of bbolt what callers look for: the file, the
// system's error number, and the store's own errors.
func (c *config) explained(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("%w: the file %s, by another process or by a Store of this one", store.ErrInUse, path)
	case errors.Is(err, bolterrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: the file %s may have %d bytes", store.ErrFull, path, c.maxFile)
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen), errors.Is(err, fs.ErrClosed):
		return store.ErrClosed
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, bolterrors.ErrChecksum):
		return &CorruptError{Path: path, Problem: "its head: " + err.Error()}
	}
	if isCorrupt(err) {
		return err
	}
	return fmt.Errorf("bolt: %s: %w", path, withNumber(err))
}

// noRoom reports whether err is about the room that the file, or its disk, has.
func noRoom(err error) bool {
	return errors.Is(err, store.ErrFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// withNumber puts back the error number that bbolt prints into its text where it
// grows the file, which is where a full disk shows.
func withNumber(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return err
	}
	for _, number := range [...]syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS, syscall.ENOMEM} {
		if strings.HasSuffix(err.Error(), number.Error()) {
			return fmt.Errorf("%w (%w)", err, number)
		}
	}
	return err
}
