// Releasing: a bucket in which a closed session has no records leaves the file with the
// next transaction there is, so that a Close waits for no disk. The records of the
// other kinds stay, such as the one of kind Meta. What a process that was killed did
// not get to release goes when that client's session is closed again, or with a
// compaction.

package bolt

import (
	"bytes"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// release deletes the empty buckets of those prefixes and reports whether there were
// any. A session that was opened again does not miss them.
func release(tx *bbolt.Tx, prefixes []string) (changed bool, err error) {
	for _, prefix := range prefixes {
		for _, name := range empty(tx, []byte(prefix)) {
			if err := tx.DeleteBucket(name); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	return changed, nil
}

// empty returns the names of a client's buckets without records.
func empty(tx *bbolt.Tx, prefix []byte) (names [][]byte) {
	c := tx.Cursor()
	for name, _ := c.Seek(prefix); bytes.HasPrefix(name, prefix); name, _ = c.Next() {
		if len(name) != len(prefix)+1 {
			continue
		}
		if first, _ := tx.Bucket(name).Cursor().First(); first == nil {
			names = append(names, bytes.Clone(name))
		}
	}
	return names
}

// toRelease returns the prefixes of sessions that were closed. A transaction that may
// be refused for want of room is not to need more for them.
func (s *Store) toRelease() []string {
	if s.db.MaxSize > 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.left))
}

func (s *Store) released(prefixes []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, prefix := range prefixes {
		delete(s.left, prefix)
	}
}
