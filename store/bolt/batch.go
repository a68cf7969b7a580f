// planner: one batch within a transaction, checked before anything is changed.

package bolt

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// Rough bounds of what a record takes beside its value, and of what is kept.
const (
	recordOverhead = 64
	keepArena      = 4 << 20
)

// planner carries out batches. Its buffers are used again for each transaction.
type planner struct {
	store *Store
	tx    *bbolt.Tx
	used  int64 // bytes of pages in use, with what was admitted

	order []int32 // indexes of a batch's ops: the last of each key, in order of keys
	arena []byte  // values, which bbolt does not copy before the commit
	key   [keySize]byte
}

func (p *planner) begin(s *Store, tx *bbolt.Tx) {
	p.store, p.tx = s, tx
	st := s.db.Stats()
	p.used = tx.Size() - int64(st.FreePageN+st.PendingPageN)*int64(s.db.Info().PageSize)
}

func (p *planner) end() {
	p.tx = nil
	if p.arena = p.arena[:0]; cap(p.arena) > keepArena {
		p.arena = nil
	}
}

// apply carries out r. An error that is a refusal means that nothing was done.
func (p *planner) apply(r *request) error {
	if r.upkeep != nil {
		return r.upkeep(p.tx)
	}
	p.sort(r.ops)
	after, err := p.admit(r)
	if err != nil {
		return &refusal{err}
	}
	if err := p.write(r); err != nil {
		return err
	}
	r.session.usage = after
	return nil
}

// sort leaves in order the ops that decide what is there after the batch. Keys in
// order make for one way through the tree.
func (p *planner) sort(ops []store.Op) {
	p.order = p.order[:0]
	for i := range ops {
		p.order = append(p.order, int32(i))
	}
	slices.SortFunc(p.order, func(a, b int32) int {
		return cmp.Or(compareKeys(ops[a].Key, ops[b].Key), cmp.Compare(b, a))
	})
	p.order = slices.CompactFunc(p.order, func(a, b int32) bool { return ops[a].Key == ops[b].Key })
}

func compareKeys(a, b store.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Seq, b.Seq))
}

// admit checks the batch against all limits and returns the usage after it.
func (p *planner) admit(r *request) (usage, error) {
	after := r.session.usage
	var outgoing *bbolt.Bucket
	var growth int64
	largest := p.store.config.largest()
	for _, i := range p.order {
		op := &r.ops[i]
		size := int64(len(op.Head) + len(op.Body))
		if size > largest && !op.Delete {
			return after, &SizeError{Path: p.store.path, Key: op.Key, Size: size, Largest: largest}
		}
		if !op.Delete {
			growth += size + recordOverhead
		}
		if op.Key.Kind != store.Outgoing {
			continue
		}
		if op.Key.Seq <= r.session.top {
			if outgoing == nil {
				outgoing = p.tx.Bucket(r.session.name(store.Outgoing))
			}
			after.forget(outgoing, p.keyOf(op.Key))
		}
		if !op.Delete {
			after.used.Messages++
			after.used.Bytes += size
			after.top = max(after.top, op.Key.Seq)
		}
	}
	if over(after.used, r.session.used, p.store.config.limits) {
		return after, fmt.Errorf("%w: the session of client %q in %s", store.ErrFull, r.session.clientID, p.store.path)
	}
	return after, p.checkRoom(growth, r.leaves)
}

// forget takes the record under key out of the count, if there is one.
func (u *usage) forget(b *bbolt.Bucket, key []byte) {
	if b == nil {
		return
	}
	if stored := b.Get(key); stored != nil {
		u.used.Messages--
		u.used.Bytes -= valueSize(stored)
	}
}

// over reports whether after exceeds limits in something that it has more of than
// before: a session above limits that were lowered can still be emptied.
func over(after, before, limits store.Limits) bool {
	return limits.Messages > 0 && after.Messages > max(before.Messages, limits.Messages) ||
		limits.Bytes > 0 && after.Bytes > max(before.Bytes, limits.Bytes)
}

// write changes the buckets.
func (p *planner) write(r *request) error {
	var name []byte
	var bucket *bbolt.Bucket
	var sum uint32
	for n, i := range p.order {
		op := &r.ops[i]
		if n == 0 || name[len(name)-1] != byte(op.Key.Kind) {
			name = r.session.name(op.Key.Kind)
			sum = nameSum(name)
			bucket = p.tx.Bucket(name)
		}
		if op.Delete {
			if bucket == nil {
				continue
			}
			if err := bucket.Delete(p.keyOf(op.Key)); err != nil {
				return err
			}
			continue
		}
		if bucket == nil || bucket.Sequence() == 0 {
			var err error
			if bucket, err = bucketFor(p.tx, name); err != nil {
				return err
			}
		}
		// Numbers grow, so a page that was split takes nothing in its left half.
		bucket.FillPercent = 1
		key, start := p.keyOf(op.Key), len(p.arena)
		p.arena = appendValue(p.arena, sum, key, op)
		if err := bucket.Put(key, p.arena[start:]); err != nil {
			return err
		}
	}
	return nil
}

// keyOf returns the stored form of key, valid until the next call.
func (p *planner) keyOf(key store.Key) []byte { return appendKey(p.key[:0], key.Seq) }
