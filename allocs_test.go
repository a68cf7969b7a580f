package mqtt

import (
	"context"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
)

// The fast path of a publish: QoS 0 allocates nothing, QoS 1 at most once, counted
// with its acknowledgement and resolution, amortised over slabs and buffers.
func TestAllocsPublish(t *testing.T) {
	payload := make([]byte, 64)
	for _, tc := range []struct {
		qos  QoS
		most float64
	}{{0, 0.1}, {1, 1}, {2, 1}} {
		o := newTestOutbound(testQueue(1000))
		l := upLink(o, 1, V5, 1000)
		spare := new(sendBuffer)
		var w resolver
		facts := make([]ackFact, 0, 2)
		ctx := context.Background()
		const batch = 100
		round := func() {
			for range batch {
				m := Message{Topic: "plant/7/temp", Payload: payload, QoS: tc.qos}
				f := o.publish(ctx, &m, true)
				if tc.qos > 0 {
					facts = append(facts[:0], ackFact{typ: codec.PUBACK, id: f.PacketID()})
					if tc.qos == 2 {
						facts[0].typ = codec.PUBREC
						facts = append(facts, ackFact{typ: codec.PUBCOMP, id: f.PacketID()})
					}
					o.acks(&l.sender, facts)
					w.turn(o)
				}
			}
			b := o.swap(&l.sender, spare)
			o.wrote(&l.sender, b, nil)
			b.reset()
			spare = b
		}
		round()
		if n := testing.AllocsPerRun(50, round) / batch; n > tc.most {
			t.Errorf("QoS %d: %.2f allocations a publish, want at most %v", tc.qos, n, tc.most)
		}
	}
}

// A window of 65,535 that is freed and filled in large steps costs no more than a small
// one, and leaves no more records behind.
func TestAllocsLargeWindow(t *testing.T) {
	o := newTestOutbound(testQueue(70_000))
	l := upLink(o, 1, V5, maxPacketID)
	spare := new(sendBuffer)
	var w resolver
	const step = 30_000
	facts := make([]ackFact, 0, maxPacketID)
	ids := make([]uint16, 0, maxPacketID)
	fill := func(n int) {
		for range n {
			m := Message{Topic: "plant/7/temp", QoS: 1}
			ids = append(ids, o.publish(context.Background(), &m, true).PacketID())
			if len(ids)%1000 == 0 {
				b := o.swap(&l.sender, spare)
				o.wrote(&l.sender, b, nil)
				b.reset()
				spare = b
			}
		}
	}
	free := func(n int) {
		facts = facts[:0]
		for _, id := range ids[:n] {
			facts = append(facts, ackFact{typ: codec.PUBACK, id: id})
		}
		ids = ids[:copy(ids, ids[n:])]
		o.acks(&l.sender, facts)
		w.turn(o)
	}
	fill(maxPacketID)
	round := func() {
		free(step)
		fill(step)
	}
	round()
	if n := testing.AllocsPerRun(5, round) / step; n > 0.1 {
		t.Errorf("%.2f allocations a publish", n)
	}
	free(maxPacketID)
	if n := o.arena.nfree; o.accepted != 0 || n > minFreeRecords {
		t.Errorf("%d publishes and %d free records are left", o.accepted, n)
	}
}

// Waiting for a Future that is resolved makes no channel.
func TestAllocsWaitOfResolvedFuture(t *testing.T) {
	f := &Future{stage: StageDone}
	if n := testing.AllocsPerRun(100, func() { f.done = nil; _ = f.Wait(context.Background()) }); n != 0 || f.done != nil {
		t.Errorf("%v allocations", n)
	}
}

// An inbound QoS 1 or 2 message costs the ledger nothing once it has warmed up.
func TestAllocsLedger(t *testing.T) {
	sub := &owner{}
	subs := []*owner{sub}
	g := &ledger{pay: func(uint32, []byte) bool { return true }}
	g.up(1, V5, false, 100)
	id := uint16(0)
	round := func() {
		if id++; id == 0 {
			id = 1
		}
		qos := QoS(1 + id%2)
		_, gen := g.arrive(inbound(id, qos, false), uint64(id), time.Time{}, subs)
		g.done(gen, id, sub)
		g.payAcks()
		if qos == 2 {
			g.pubrel(id)
		}
	}
	for range 2000 {
		round()
	}
	if n := testing.AllocsPerRun(20_000, round); n > 0.05 {
		t.Errorf("%.2f allocations a message", n)
	}
}
