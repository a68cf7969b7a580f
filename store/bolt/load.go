// Reading: records are copied out of short transactions, so that visit may take
// its time and call the session.

package bolt

import (
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// A transaction copies out so many records, or the first that takes the copy
// above so many bytes.
const (
	chunkRecords = 1024
	chunkBytes   = 256 << 10
)

// copied holds records out of one bucket.
type copied struct {
	name    []byte
	records []stored
	bytes   []byte
}

// stored is a record as it lies in the file: ends of its parts in copied.bytes.
type stored struct{ start, value, end int }

func (c *copied) add(key, value []byte) (full bool) {
	start := len(c.bytes)
	c.bytes = append(append(c.bytes, key...), value...)
	c.records = append(c.records, stored{start, start + len(key), len(c.bytes)})
	return len(c.records) >= chunkRecords || len(c.bytes) >= chunkBytes
}

func (c *copied) key(i int) []byte   { return c.bytes[c.records[i].start:c.records[i].value] }
func (c *copied) value(i int) []byte { return c.bytes[c.records[i].value:c.records[i].end] }

func (s *session) Load(visit func(store.Entry) error) error {
	if err := s.check(); err != nil {
		return err
	}
	kinds, err := s.kinds()
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if err := s.loadKind(kind, visit); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) loadKind(kind store.Kind, visit func(store.Entry) error) error {
	c := &copied{name: s.name(kind)}
	var next []byte // where to go on; nil at first
	for first := true; first || next != nil; first = false {
		c.records, c.bytes = c.records[:0], c.bytes[:0]
		more := false
		err := s.store.view(func(tx *bbolt.Tx) error {
			more = copyFrom(tx, next, c)
			return nil
		})
		if err != nil {
			return err
		}
		next = nil
		if more {
			// The least key above the last one.
			next = append(slices.Clone(c.key(len(c.records)-1)), 0)
		}
		if err := s.visitAll(kind, c, visit); err != nil {
			return err
		}
	}
	return nil
}

// copyFrom fills c with records from key on and reports whether there may be more.
func copyFrom(tx *bbolt.Tx, key []byte, c *copied) (more bool) {
	b := tx.Bucket(c.name)
	if b == nil {
		return false
	}
	cursor := b.Cursor()
	for k, v := cursor.Seek(key); k != nil; k, v = cursor.Next() {
		if c.add(k, v) {
			return true
		}
	}
	return false
}

// visitAll sets damaged records aside and visits all.
func (s *session) visitAll(kind store.Kind, c *copied, visit func(store.Entry) error) error {
	sum := nameSum(c.name)
	var bad []damaged
	for i := range c.records {
		if _, problem := value(sum, c.key(i), c.value(i)); problem != "" {
			bad = append(bad, damaged{index: i, problem: problem})
		}
	}
	if len(bad) > 0 {
		if err := s.setAside(c, bad); err != nil {
			return err
		}
	}
	for i := range c.records {
		e := store.Entry{Key: store.Key{Kind: kind, Seq: seqOf(c.key(i))}}
		if len(bad) > 0 && bad[0].index == i {
			e.Err = &store.DamageError{Key: e.Key, Problem: bad[0].problem, Quarantine: bad[0].place}
			bad = bad[1:]
		} else {
			v := c.value(i)[sumSize:]
			e.Value = v[:len(v):len(v)]
		}
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) Read(keys []store.Key, visit func(i int, value []byte) error) error {
	if err := s.check(); err != nil {
		return err
	}
	var c copied
	for done := 0; done < len(keys); {
		c.records, c.bytes = c.records[:0], c.bytes[:0]
		missing := false
		err := s.store.view(func(tx *bbolt.Tx) error {
			missing = s.copyKeys(tx, keys[done:], &c)
			return nil
		})
		if err != nil {
			return err
		}
		for i := range c.records {
			key := keys[done+i]
			v, problem := value(nameSum(s.name(key.Kind)), c.key(i), c.value(i))
			if problem != "" {
				return &store.DamageError{Key: key, Problem: problem}
			}
			if err := visit(done+i, v[:len(v):len(v)]); err != nil {
				return err
			}
		}
		if done += len(c.records); missing {
			return fmt.Errorf("%w: %s", store.ErrNotFound, keys[done])
		}
	}
	return nil
}

// copyKeys fills c with records under keys and reports whether the next one is
// not there.
func (s *session) copyKeys(tx *bbolt.Tx, keys []store.Key, c *copied) (missing bool) {
	var key [keySize]byte
	for _, k := range keys {
		b := tx.Bucket(s.name(k.Kind))
		if b == nil {
			return true
		}
		stored := b.Get(appendKey(key[:0], k.Seq))
		if stored == nil {
			return true
		}
		if c.add(appendKey(key[:0], k.Seq), stored) {
			return false
		}
	}
	return false
}
