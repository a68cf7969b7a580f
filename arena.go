package mqtt

import "slices"

// arena is where the memory of publishes comes from: records are used again, Futures
// and small payloads are cut from slabs. It is guarded by outbound.mu.
type arena struct {
	queue recordQueue // of the records that it makes; immutable
	free  *record
	nfree int
	used  int // records that are not free
	futs  []Future
	slab  []byte
}

const (
	// minFreeRecords is how many free records are kept at least; while more are in use,
	// as many as these, since a large window is freed and filled in large steps.
	minFreeRecords = 4096
	futureSlab     = 32
	payloadSlab    = 8 << 10
)

// record returns a record to fill in.
func (a *arena) record() *record {
	a.used++
	if a.free == nil {
		return &record{home: a}
	}
	return a.takeFree()
}

// takeFree takes a free record; there must be one.
func (a *arena) takeFree() *record {
	r := a.free
	a.free, r.next = r.next, nil
	a.nfree--
	return r
}

// recycle keeps r for reuse.
func (a *arena) recycle(r *record) {
	r.exchange = exchange{}
	a.used--
	r.next, a.free = a.free, r
	a.nfree++
	for most := max(minFreeRecords, a.used); a.nfree > most; {
		a.takeFree()
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
