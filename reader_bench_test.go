package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
)

// What the reader itself costs: packets of one read of 200 messages of 64 bytes,
// through topic table, ledger and channel, and the acknowledgements. No other goroutine
// runs beside it.
func BenchmarkReader(b *testing.B) {
	for qos := range byte(3) {
		b.Run(fmt.Sprint("QoS ", qos), func(b *testing.B) { benchmarkReader(b, qos) })
	}
}

func benchmarkReader(b *testing.B, qos byte) {
	const batch = 200
	cfg := defaults()
	c := newConn(context.Background(), &cfg)
	c.ledger.pay = func(uint32, []byte) bool { return true }
	c.ledger.up(1, V311, false, 0)
	o := newSubOptions(nil)
	s := newSubscription(c.up, []Filter{{Pattern: "plant/#"}}, o)
	if err := c.routes.add(s); err != nil {
		b.Fatal(err)
	}
	ch := s.C()
	r := &reader{l: &link{session: &c.session, sender: sender{no: 1, version: V311}, socket: socket{began: time.Now()}, framer: codec.NewFramer(V311, 0)}}
	r.topics = c.topicsOf(false)
	var packets, releases []byte
	for i := range batch {
		p := codec.Publish{QoS: qos, Topic: "plant/7/line3/temp", Payload: make([]byte, 64)}
		if qos > 0 {
			p.PacketID = uint16(i + 1)
		}
		packets = codec.AppendPublish(packets, V311, &p)
		releases = codec.AppendAck(releases, V311, codec.PUBREL, uint16(i+1), 0, nil)
	}
	feed := func(packets []byte) {
		for in := bytes.NewReader(packets); in.Len() > 0; {
			if _, err := r.l.framer.Fill(in); err != nil {
				b.Fatal(err)
			}
			if err := r.handleAll(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		feed(packets)
		for range batch {
			<-ch
		}
		if qos == 2 {
			feed(releases)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/msg")
	b.ReportMetric(0, "ns/op")
}
