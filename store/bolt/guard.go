// Transactions that survive damaged pages: bbolt trusts what it maps and panics,
// or faults on memory that is not there, when that is damaged.

package bolt

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/millrace/mqtt/store"
	"go.etcd.io/bbolt"
)

// guard calls f and turns a panic or a memory fault into a CorruptError.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{Path: path, Problem: fmt.Sprint(p)}
		}
	}()
	return f()
}

// view runs a read transaction. f must not call out: a long transaction holds
// pages, and one that waits for a commit may wait for ever.
func (s *Store) view(f func(*bbolt.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	begun := false
	err := guard(s.path, func() error {
		return s.db.View(func(tx *bbolt.Tx) error { begun = true; return f(tx) })
	})
	if isCorrupt(err) && !begun {
		// The heads went bad since usable saw them: nobody can lock bbolt any more.
		s.broken.CompareAndSwap(nil, &uncertain{err})
	}
	return s.config.explained(s.path, err)
}

// usable returns why there cannot be a transaction. It reads the heads as bbolt is
// about to, which locks all others out meanwhile, and for ever if that ends in a
// panic or a fault.
func (s *Store) usable() error {
	if broken := s.broken.Load(); broken != nil {
		return broken
	}
	src := &source{ReaderAt: s.file}
	_, err := readHead(src)
	switch {
	case src.err != nil:
		return s.config.explained(s.path, src.err)
	case err != nil:
		return &CorruptError{Path: s.path, Problem: err.Error()}
	}
	return nil
}

// errUnchanged ends an update that has nothing to commit.
var errUnchanged = errors.New("bolt: nothing to commit")

// update runs a write transaction. The leader calls it, one at a time.
func (s *Store) update(f func(*bbolt.Tx) error) error {
	err := s.usable()
	if err != nil {
		return err
	}
	var id int
	err = guard(s.path, func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return f(tx)
		})
	})
	if err == nil || errors.Is(err, errUnchanged) {
		return nil
	}
	err = s.config.explained(s.path, err)
	switch {
	case isCorrupt(err):
		// bbolt's locks and free pages are in an unknown state.
	case s.shows(id):
		// The head was written, but the flush after it failed. A second flush that
		// succeeds would prove nothing: the system drops what it could not write.
	default:
		return err
	}
	s.broken.Store(&uncertain{err})
	return s.broken.Load()
}

// uncertain is the error of a Store that must be opened again: its last commit
// failed so late that it cannot be told whether it is on disk, or its pages turned
// out damaged where bbolt cannot go on.
type uncertain struct{ cause error }

func (u *uncertain) Error() string   { return store.ErrUncertain.Error() + ": " + u.cause.Error() }
func (u *uncertain) Unwrap() []error { return []error{store.ErrUncertain, u.cause} }

// shows reports whether readers see transaction id, or cannot see at all.
func (s *Store) shows(id int) bool {
	seen := id
	err := s.view(func(tx *bbolt.Tx) error { seen = tx.ID(); return nil })
	return err != nil || seen >= id
}
