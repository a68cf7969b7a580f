// Quarantine: a bucket of damaged records as they were found, the oldest leaving
// as it grows too large.

package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// What the quarantine holds at most; a record above the second is cut.
const (
	maxQuarantined     = 1000
	maxQuarantineBytes = 4 << 20
	maxQuarantineEntry = 1 << 20
	quarantineShare    = 16 // of a file with a bound, which it would fill for good
)

// quarantined is how many bytes the quarantine may hold.
func (c *config) quarantined() int {
	if c.maxFile == 0 {
		return maxQuarantineBytes
	}
	return int(min(c.maxFile/quarantineShare, maxQuarantineBytes))
}

// damaged is a record in a copied to set aside.
type damaged struct {
	index   int
	problem string
	place   string // where its bytes are, set by setAside
}

// setAside moves the records of bad to the quarantine in one transaction, or only
// takes them out when there is no room for them. On a disk that has no room for that
// either they stay, to be met again: what is sound can be sent all the same, and that
// makes room.
func (s *session) setAside(c *copied, bad []damaged) error {
	err := s.moveAway(c, bad, true)
	if noRoom(err) {
		err = s.moveAway(c, bad, false)
	}
	if noRoom(err) {
		return nil
	}
	return err
}

func (s *session) moveAway(c *copied, bad []damaged, keep bool) error {
	r := &request{session: s}
	if keep {
		r.leaves = leavesNote
	}
	r.upkeep = func(tx *bbolt.Tx) error {
		b := tx.Bucket(c.name)
		if b == nil {
			return nil
		}
		for i := range bad {
			d := &bad[i]
			key, raw := c.key(d.index), c.value(d.index)
			if now := b.Get(key); now == nil || !bytes.Equal(now, raw) {
				continue // a commit was here since, or another Load
			}
			if err := b.Delete(key); err != nil {
				return err
			}
			if store.Kind(c.name[len(c.name)-1]) == store.Outgoing {
				s.used.Messages--
				s.used.Bytes -= valueSize(raw)
			}
			d.place = ""
			if !keep {
				continue
			}
			n, err := quarantine(tx, c.name, key, raw, s.store.config.quarantined())
			if err != nil {
				return err
			}
			d.place = fmt.Sprintf("the quarantine of %s, number %d", s.store.path, n)
		}
		return nil
	}
	return s.store.submit(r)
}

// quarantine adds a record and makes room for it, within limit bytes.
func quarantine(tx *bbolt.Tx, name, key, raw []byte, limit int) (n uint64, err error) {
	q, err := tx.CreateBucketIfNotExists([]byte(quarantineBucket))
	if err != nil {
		return 0, err
	}
	if n, err = q.NextSequence(); err != nil {
		return 0, err
	}
	raw = raw[:min(len(raw), maxQuarantineEntry)]
	if err := makeRoom(q, len(raw), limit); err != nil {
		return 0, err
	}
	entry := binary.BigEndian.AppendUint16(nil, uint16(len(name)))
	entry = append(entry, name...)
	entry = binary.BigEndian.AppendUint16(entry, uint16(len(key)))
	entry = append(append(entry, key...), raw...)
	return n, q.Put(appendKey(nil, n), entry)
}

// makeRoom deletes the oldest entries until one more of that size fits.
func makeRoom(q *bbolt.Bucket, size, limit int) error {
	count, total := 1, size
	c := q.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		count++
		total += len(v)
	}
	for count > maxQuarantined || total > limit {
		k, v := c.First()
		if k == nil {
			return nil
		}
		count--
		total -= len(v)
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// Quarantined is a damaged record as it was found.
type Quarantined struct {
	Number uint64 // grows with each one
	Bucket []byte // of the file, which names client and kind
	Key    []byte // the record's number, 8 bytes big-endian unless it is damaged
	Raw    []byte // CRC-32C and value; the first 1 MiB
}

// Quarantine returns the damaged records that are kept, oldest first: 1,000 and
// 4 MiB at most, and a 16th of what [WithMaxFile] allows.
func (s *Store) Quarantine() (all []Quarantined, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		q := tx.Bucket([]byte(quarantineBucket))
		if q == nil {
			return nil
		}
		return q.ForEach(func(k, v []byte) error {
			entry := Quarantined{Number: seqOf(k)}
			entry.Bucket, v = prefixed(v)
			entry.Key, v = prefixed(v)
			entry.Raw = bytes.Clone(v)
			all = append(all, entry)
			return nil
		})
	})
	return all, err
}

// prefixed cuts off what stands behind its length; what is damaged comes out
// short.
func prefixed(b []byte) (part, rest []byte) {
	if len(b) < 2 {
		return nil, nil
	}
	n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
	return bytes.Clone(b[2 : 2+n]), b[2+n:]
}
