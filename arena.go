package mqtt

import "slices"

// arena is where the memory of publishes comes from: records are used again, Futures
// and small payloads are cut from slabs. It is guarded by outbound.mu.
type arena struct {
	queue recordQueue // of the records that it makes; immutable
	free  *record
	nfree int
	futs  []Future
	slab  []byte
}

const (
	maxFreeRecords = 4096
	futureSlab     = 32
	payloadSlab    = 8 << 10
)

// record returns a record to fill in.
func (a *arena) record() *record {
	r := a.free
	if r == nil {
		return &record{home: a}
	}
	a.free = r.next
	a.nfree--
	return r
}

// recycle keeps r for reuse.
func (a *arena) recycle(r *record) {
	r.exchange = exchange{}
	if a.nfree < maxFreeRecords {
		r.next, a.free = a.free, r
		a.nfree++
	}
}

// future cuts a Future from a slab; a Future is never used again.
func (a *arena) future() *Future {
	if len(a.futs) == 0 {
		a.futs = make([]Future, futureSlab)
	}
	f := &a.futs[0]
	a.futs = a.futs[1:]
	return f
}

// payload copies a small payload into a slab that is shared by many.
func (a *arena) payload(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if len(p) > slabPayload {
		return slices.Clone(p)
	}
	if len(a.slab)+len(p) > cap(a.slab) {
		a.slab = make([]byte, 0, payloadSlab)
	}
	at := len(a.slab)
	a.slab = append(a.slab, p...)
	return a.slab[at:len(a.slab):len(a.slab)]
}
