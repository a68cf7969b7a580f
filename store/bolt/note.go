// The note about a salvage: it goes into the new file before that has its name, so that
// a process that is killed then keeps nobody from hearing of what is lost.

package bolt

import (
	"encoding/json"
	"path/filepath"

	"go.etcd.io/bbolt"
)

const salvagedKey = "salvaged" // in infoBucket: a Salvage as JSON, Aside without the directory

// write is what a transaction does. A note that came along from the damaged file has
// not been heard of.
func (n *Salvage) write(tx *bbolt.Tx) error {
	b := tx.Bucket([]byte(infoBucket))
	stored := *n
	if before := readNote(b); before != nil {
		stored.Problem += "; and before, of " + before.Aside + ": " + before.Problem
	}
	stored.Aside = filepath.Base(n.Aside)
	text, err := json.Marshal(&stored)
	if err != nil {
		return err
	}
	return b.Put([]byte(salvagedKey), text)
}

// readNote returns the note in the bucket as it is stored, nil when there is none.
func readNote(info *bbolt.Bucket) *Salvage {
	text := info.Get([]byte(salvagedKey))
	if text == nil {
		return nil
	}
	n := new(Salvage)
	if err := json.Unmarshal(text, n); err != nil {
		n.Problem = "the note on that is damaged"
	}
	return n
}

// findNote sets what Salvaged returns.
func (s *Store) findNote(tx *bbolt.Tx) error {
	if n := readNote(tx.Bucket([]byte(infoBucket))); n != nil {
		n.Aside = filepath.Join(filepath.Dir(s.path), filepath.Base(n.Aside))
		s.salvaged = n
	}
	return nil
}

func forgetNote(tx *bbolt.Tx) error {
	return tx.Bucket([]byte(infoBucket)).Delete([]byte(salvagedKey))
}
