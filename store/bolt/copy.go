// copyRecords: what is in one file, into a new one that nobody uses yet.

package bolt

import (
	"errors"

	"go.etcd.io/bbolt"
)

const copyBatch = 4 << 20 // bytes in a transaction, which stay in memory

// copyRecords puts what w finds into db, and returns how many records that are. A
// bucket without any is left out.
func copyRecords(db *bbolt.DB, w *walker) (records int, err error) {
	c := &copier{db: db}
	w.leaf = c.leaf
	all, err := w.buckets()
	for _, b := range all {
		name := b.intended()
		if err == nil && (isRecords(name) || string(name) == quarantineBucket || string(name) == infoBucket) {
			err = w.bucket(name, b.value)
		}
	}
	return c.records, c.end(err)
}

// copier has a transaction open while it has something to commit.
type copier struct {
	db      *bbolt.DB
	tx      *bbolt.Tx
	size    int
	records int
}

func (c *copier) leaf(name []byte, e *element) (err error) {
	if e.flags != 0 || len(e.key) == 0 {
		return nil
	}
	if c.tx == nil {
		if c.tx, err = c.db.Begin(true); err != nil {
			return err
		}
	}
	if err := c.keep(name, e); err != nil {
		return err
	}
	if c.size += len(e.key) + len(e.value); c.size < copyBatch {
		return nil
	}
	return c.end(nil)
}

// keep puts a record into the new file, damaged ones too: Load sets them aside.
// Of two under one key the sound one stays.
func (c *copier) keep(name []byte, e *element) error {
	b, err := bucketFor(c.tx, name)
	if err != nil {
		return err
	}
	b.FillPercent = 1 // keys come in order
	switch {
	case string(name) == infoBucket:
		if string(e.key) != salvagedKey {
			return nil // the new file has its own
		}
		return b.Put(e.key, e.value)
	case string(name) == quarantineBucket:
		// The next number is above all that were given.
		return errors.Join(b.SetSequence(max(b.Sequence(), seqOf(e.key))), b.Put(e.key, e.value))
	}
	if old := b.Get(e.key); old != nil {
		if _, problem := value(nameSum(name), e.key, old); problem == "" {
			return nil
		}
	}
	c.records++
	return b.Put(e.key, e.value)
}

// end commits what there is to commit, unless err.
func (c *copier) end(err error) error {
	tx := c.tx
	c.tx, c.size = nil, 0
	switch {
	case tx == nil:
		return err
	case err != nil:
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
