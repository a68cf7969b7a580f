package mqtt

import "slices"

// A Future that fails says that its message is given up. With a session store
// that is so only once the message's record is gone from there: a process that
// dies before leaves the message to the next one. So these Futures wait for the
// commit that deletes the record, and one that resolved has told the truth.

// heldEnd is a Future that resolves when a batch is durable.
type heldEnd struct {
	resolution
	key   uint64 // of the message's record
	batch uint64 // number of the batch that deletes it, or of one behind
}

// holdEnd makes r, the end of the message with that key, wait for the deletion,
// which is gathered.
func (o *outbound) holdEnd(r resolution, key uint64) {
	o.keep.ends = append(o.keep.ends, heldEnd{r, key, o.keep.no})
}

// durable resolves what waited for the batches up to number no, and closes gaps.
func (o *outbound) durable(no uint64) {
	k := o.keep
	k.closeGaps(no)
	n := 0
	for ; n < len(k.ends) && k.ends[n].batch <= no; n++ {
		o.resolved = append(o.resolved, k.ends[n].resolution)
	}
	k.ends = slices.Delete(k.ends, 0, n)
}

// neverThere resolves what waited for the deletion of messages that no commit
// brought into the store.
func (o *outbound) neverThere(lost map[uint64]bool) {
	k := o.keep
	k.ends = slices.DeleteFunc(k.ends, func(e heldEnd) bool {
		if lost[e.key] {
			o.resolved = append(o.resolved, e.resolution)
		}
		return lost[e.key]
	})
}

// undeleted resolves what waits for deletions that fail, or hang beyond the end
// of the Conn: a later one may find the messages.
func (o *outbound) undeleted() {
	for i := range o.keep.ends {
		e := &o.keep.ends[i]
		if p, ok := e.err.(*PublishError); ok {
			p.Kept = true // nobody has seen it yet
		}
		o.resolved = append(o.resolved, e.resolution)
	}
	clear(o.keep.ends)
	o.keep.ends = o.keep.ends[:0]
}
