package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Many subscriptions of one filter, as a gateway makes one for each browser: what joining
// and leaving costs each, and a message of QoS 1 each member.
func BenchmarkMembers(b *testing.B) {
	for _, members := range []int{10, 100, 1_000, 5_000} {
		b.Run(fmt.Sprint("join/", members), func(b *testing.B) {
			for b.Loop() {
				w := newMembers(b, members)
				for _, s := range w.subs {
					w.c.routes.remove(s)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/member")
			b.ReportMetric(0, "ns/op")
		})
		b.Run(fmt.Sprint("message/", members), func(b *testing.B) {
			w := newMembers(b, members)
			for b.Loop() {
				w.receive(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/member")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// members are subscriptions of one filter at the end of a link.
type members struct {
	c    *Conn
	r    *reader
	subs []*Subscription
	id   uint16
}

func newMembers(b *testing.B, n int) *members {
	cfg := defaults()
	w := &members{c: newConn(context.Background(), &cfg)}
	w.c.ledger.pay = func(uint32, []byte) bool { return true }
	w.c.ledger.up(1, V311, false, 0)
	for range n {
		s := newSubscription(w.c.up, []Filter{{Pattern: "plant/#", QoS: 1}}, newSubOptions(nil))
		if err := w.c.routes.add(s); err != nil {
			b.Fatal(err)
		}
		s.C()
		w.subs = append(w.subs, s)
	}
	w.r = &reader{l: &link{session: &w.c.session, sender: sender{no: 1, version: V311}, socket: socket{began: time.Now()}, framer: codec.NewFramer(V311, 0)}}
	w.r.topics = w.c.topicsOf(false)
	return w
}

// receive brings one message, which every member takes.
func (w *members) receive(b *testing.B) {
	w.id = w.id%maxPacketID + 1
	in := bytes.NewReader(codec.AppendPublish(nil, V311, &codec.Publish{QoS: 1, PacketID: w.id, Topic: "plant/7", Payload: make([]byte, 64)}))
	for in.Len() > 0 {
		if _, err := w.r.l.framer.Fill(in); err != nil {
			b.Fatal(err)
		}
		if err := w.r.handleAll(); err != nil {
			b.Fatal(err)
		}
	}
	for _, s := range w.subs {
		<-s.ch
	}
}
