// Backup: a consistent copy for a writer that may take its time.

package bolt

import (
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// Backup writes a consistent copy of the file to w: one that Open opens. w may take
// as long as it likes; commits go on, and the Store may be closed. For that the file
// is copied on its own disk first, which takes as much room again until Backup is
// back. While that goes on, a commit for which the file must grow waits, and with it
// those who read.
func (s *Store) Backup(w io.Writer) error {
	f, remove, err := s.snapshot()
	if err != nil {
		return err
	}
	defer remove()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("bolt: backup of %s: %w", s.path, err)
	}
	return nil
}

// snapshot returns a copy of the file, read from its beginning, and what closes and
// removes it.
func (s *Store) snapshot() (f *os.File, remove func(), err error) {
	f, err = newBeside(s.path, defaultMode, nil)
	if err != nil {
		return nil, nil, s.config.explained(s.path, err)
	}
	// At once, so that nothing stays when the process is killed, or where an open file
	// cannot be removed in the end.
	named := os.Remove(f.Name()) != nil
	remove = func() {
		f.Close()
		if named {
			os.Remove(f.Name())
		}
	}
	err = s.view(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	})
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		remove()
		return nil, nil, err
	}
	return f, remove, nil
}
