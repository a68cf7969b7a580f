// Open: from a path to a file that can be trusted.

package bolt

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// Open opens the file at path, and makes it when there is none; its directory
// must exist. It returns an error that wraps [store.ErrInUse] when another
// process has it open, a [CorruptError] or a [FormatError] when its content
// cannot be used, and the system's error when it may not be written.
func Open(path string, opts ...Option) (*Store, error) {
	c := defaults()
	for _, o := range opts {
		if o == nil {
			return nil, errNilOption
		}
		o.applyOpen(&c)
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := c.create(path); err != nil {
			return nil, c.explained(path, err)
		}
	}
	uncompacted, err := c.prepare(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, config: c, uncompacted: uncompacted}
	s.sessions, s.left = make(map[string]*session), make(map[string]struct{})
	s.idle.L = &s.mu
	if s.db, s.file, err = c.openLocked(path, false); err != nil {
		return nil, err
	}
	err = c.explained(path, settle(path, s.file))
	if err == nil {
		err = s.view(s.findNote)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	sweep(path)
	return s, nil
}

// prepare checks the file, and salvages or compacts it where that is due and
// asked for. It returns why it was not compacted: a file can be used all the same.
func (c *config) prepare(path string) (uncompacted, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("bolt: %w", err)
	}
	im, err := c.inspect(path, info)
	switch {
	case err == nil && c.compact && im.wasteful():
		err = c.compactFile(path)
		if noRoom(err) || errors.Is(err, fs.ErrPermission) {
			return err, nil
		}
	case c.salvage && isCorrupt(err):
		err = c.salvageFile(path, info, err)
	}
	return nil, err
}

// inspect checks the file under a lock.
func (c *config) inspect(path string, info fs.FileInfo) (*image, error) {
	if !info.Mode().IsRegular() {
		return nil, &FormatError{Path: path, Problem: "it is not a regular file"}
	}
	if info.Size() == 0 {
		return nil, &CorruptError{Path: path, Problem: "it is empty, which no store ever is: remove it if it never was one"}
	}
	if err := foreign(path); err != nil {
		return nil, err
	}
	db, file, err := c.openLocked(path, true)
	if err != nil {
		return nil, err
	}
	defer guard(path, db.Close)
	if info, err = file.Stat(); err != nil {
		return nil, fmt.Errorf("bolt: %w", err)
	}
	src := &source{ReaderAt: file}
	im, err := check(path, src, info.Size())
	if src.err != nil {
		return nil, c.explained(path, src.err)
	}
	if _, ok := errors.AsType[*FormatError](err); ok || err == nil {
		return im, err
	}
	return nil, &CorruptError{Path: path, Problem: err.Error()}
}

// foreign returns an error for a file whose beginning was never a bbolt head. One
// of zeros may have been: that is what a lost power supply leaves.
func foreign(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("bolt: %w", err)
	}
	defer f.Close()
	var b [pageHeader + 8]byte
	zero := b
	if _, err := f.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return fmt.Errorf("bolt: %w", err)
	}
	if b == zero {
		return nil // what is wrong comes out later
	}
	if binary.NativeEndian.Uint32(b[pageHeader:]) == headMagic {
		return nil
	}
	src := &source{ReaderAt: f}
	h, err := readHead(src)
	if src.err != nil {
		return fmt.Errorf("bolt: %w", src.err)
	}
	if err == nil && h.pages > 0 {
		return nil
	}
	return &FormatError{Path: path, Problem: "it is not a bbolt database"}
}

// openLocked opens the file with bbolt and checks that the lock is on the file
// that has the name now: another process may have replaced it meanwhile.
func (c *config) openLocked(path string, readOnly bool) (db *bbolt.DB, file *os.File, err error) {
	options := c.bboltOptions()
	options.ReadOnly = readOnly
	options.OpenFile = func(name string, flag int, mode fs.FileMode) (*os.File, error) {
		var err error
		// Not created: a file that vanished must not come back empty.
		file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
		return file, err
	}
	err = guard(path, func() (err error) {
		db, err = bbolt.Open(path, c.mode, options)
		return err
	})
	if err != nil {
		if file != nil { // after a panic; else bbolt did, and this does nothing
			unlock(file)
			file.Close()
		}
		err = c.explained(path, err)
		if number := syscall.Errno(0); !errors.As(err, &number) && !errors.Is(err, store.ErrInUse) && !isCorrupt(err) {
			err = &CorruptError{Path: path, Problem: err.Error()} // bbolt's own words on the file
		}
		return nil, nil, err
	}
	db.AllocSize = c.growth()
	if err := unreplaced(path, file); err != nil {
		db.Close()
		return nil, nil, err
	}
	return db, file, nil
}

// settle makes what is in the file durable, and its name. The last commit may be one
// whose process was killed before the flush at its end, or had an error from it: then
// readers see it, but the system may count the head as written that is not on disk.
// So the head is written again, as it is, before it is flushed. The same goes for the
// name: who gave it to the file may not have got to flush the directory.
func settle(path string, f *os.File) error {
	src := &source{ReaderAt: f}
	h, err := readHead(src)
	if err := cmp.Or(src.err, err); err != nil {
		return err
	}
	var b [pageHeader + headSize]byte
	if _, err := f.ReadAt(b[:], h.at); err != nil {
		return err
	}
	if _, err := f.WriteAt(b[:], h.at); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(path)
}

func (c *config) bboltOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout:      c.lockWait,
		FreelistType: bbolt.FreelistMapType,
	}
}

func writeFormat(tx *bbolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte(infoBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(formatKey), binary.BigEndian.AppendUint32(nil, formatVersion))
}
