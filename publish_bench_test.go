package mqtt

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// What the way out itself costs: publishes of 64 bytes, 100 to a write, through queue,
// window and the buffer of the link, and their acknowledgements. No goroutine runs
// beside it, and nothing is written to a socket. tools/instructions counts by it.
func BenchmarkPublish(b *testing.B) {
	for qos := range QoS(3) {
		b.Run(fmt.Sprint("QoS ", uint8(qos)), func(b *testing.B) { benchmarkPublish(b, qos) })
	}
}

func benchmarkPublish(b *testing.B, qos QoS) {
	const batch = 100
	o := newTestOutbound(testQueue(1000))
	l := &upLink(o, 1, V5, 1000).sender
	var w resolver
	spare := new(sendBuffer)
	facts := make([]ackFact, 0, 2*batch)
	payload := make([]byte, 64)
	for b.Loop() {
		facts = facts[:0]
		for range batch {
			m := Message{Topic: "plant/7/line3/temp", Payload: payload, QoS: qos}
			f := o.publish(context.Background(), &m, true)
			switch qos {
			case 1:
				facts = append(facts, ackFact{typ: codec.PUBACK, id: f.PacketID()})
			case 2:
				facts = append(facts, ackFact{typ: codec.PUBREC, id: f.PacketID()}, ackFact{typ: codec.PUBCOMP, id: f.PacketID()})
			}
		}
		taken := o.swap(l, spare)
		o.wrote(l, taken, nil)
		taken.reset()
		spare = taken
		if qos > 0 {
			o.acks(l, facts)
			w.turn(o)
		}
	}
	if o.accepted != 0 {
		b.Fatalf("%d publishes are left", o.accepted)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/msg")
	b.ReportMetric(0, "ns/op")
}
