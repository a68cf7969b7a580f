package mqtt

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
)

// keepLedger is a ledger on 3.1.1 with a session store, for which it asks kept.
func keepLedger(kept *[]uint16, paid *[]byte) *ledger {
	g := &ledger{pay: func(_ uint32, packets []byte) bool {
		*paid = append(*paid, packets...)
		return true
	}}
	g.persist = func(_ uint64, f inFact) uint64 {
		*kept = append(*kept, f.id)
		return uint64(len(*kept))
	}
	g.up(1, V311, false, 0)
	return g
}

// enterAcked brings a QoS 2 message that is acknowledged at once.
func enterAcked(g *ledger, id uint16) generation {
	_, gen := g.arrive(inbound(id, 2, false), uint64(id), time.Time{}, nil)
	return gen
}

// Each PUBREC that is due asks once for its record, also behind one that the
// application holds, and again when the store could not write it.
func TestKeepBehindAsksOnce(t *testing.T) {
	var kept []uint16
	var paid []byte
	g := keepLedger(&kept, &paid)
	want := func(ids ...uint16) {
		t.Helper()
		g.payAcks()
		g.payAcks()
		if !slices.Equal(kept, ids) {
			t.Fatalf("asked for %v, want %v", kept, ids)
		}
		kept = nil
	}
	first := &owner{}
	gens := map[uint16]generation{1: enterAcked(g, 1), 2: enterAcked(g, 2)}
	want(1, 2)
	_, gen := g.arrive(inbound(3, 2, false), 3, time.Time{}, []*owner{first})
	gens[3], gens[4] = gen, enterAcked(g, 4)
	want()
	g.committed([]inFact{{id: 1, gen: gens[1]}}, nil)
	want()
	if err := g.done(gens[3], 3, first); err != nil {
		t.Fatal(err)
	}
	want(3, 4)
	g.committed([]inFact{{id: 2, gen: gens[2]}, {id: 4, gen: gens[4]}}, errors.New("no space"))
	want(2, 4)
	g.up(2, V311, true, 0)
	for id := range uint16(4) {
		if a, _ := g.arrive(inbound(id+1, 2, true), uint64(id+1), time.Time{}, nil); a != arrivedAgain {
			t.Fatalf("%d sent again: %v", id+1, a)
		}
	}
	want()
	for id := uint16(2); id <= 4; id++ {
		g.committed([]inFact{{id: id, gen: gens[id]}}, nil)
	}
	want()
	sent := parseSent(V311, paid)
	var recs []uint16
	for _, p := range sent {
		if p.typ != codec.PUBREC {
			t.Errorf("paid %v", p)
		}
		recs = append(recs, p.id)
	}
	if !slices.Equal(recs, []uint16{1, 1, 2, 3, 4}) {
		t.Errorf("PUBRECs %v", recs)
	}
}

// BenchmarkKeepBehind settles with 65,535 messages that wait for the store.
func BenchmarkKeepBehind(b *testing.B) {
	var kept []uint16
	var paid []byte
	g := keepLedger(&kept, &paid)
	for id := range uint16(maxPacketID) {
		enterAcked(g, id+1)
	}
	for b.Loop() {
		g.payAcks()
	}
}
