package mqtt

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// fakeWriter is the writer of a fake link, and a server that acknowledges all it
// gets. It ends with the link.
func fakeWriter(o *outbound, l *link) {
	spare := new(sendBuffer)
	for !l.killed() {
		b := o.swap(&l.sender, spare)
		if b == nil {
			select {
			case <-l.work:
			case <-l.dead:
			}
			continue
		}
		var bytes []byte
		for _, p := range b.section(nil, 0, len(b.buf), 1<<30) {
			bytes = append(bytes, p...)
		}
		var acks []ackFact
		for _, p := range parseSent(l.version, bytes) {
			switch {
			case p.typ == codec.PUBREL:
				acks = append(acks, ackFact{typ: codec.PUBCOMP, id: p.id})
			case p.qos == 1:
				acks = append(acks, ackFact{typ: codec.PUBACK, id: p.id})
			case p.qos == 2:
				acks = append(acks, ackFact{typ: codec.PUBREC, id: p.id})
			}
		}
		// An acknowledgement may come before Write has returned.
		o.acks(&l.sender, acks)
		o.wrote(&l.sender, b, nil)
		b.reset()
		spare = b
	}
}

// Publishers of all kinds, a writer, the window's goroutine, cuts and Flushes at
// once: no wake-up is lost, every Future resolves, and Flush returns only when
// what its caller published is resolved.
func TestOutboundConcurrently(t *testing.T) {
	cfg := testQueue(7)
	cfg.messages, cfg.bytes, cfg.keepQoS0 = 20, 3*refSize, true
	o := newTestOutbound(cfg)
	go o.resolve()
	stop, cut := make(chan struct{}), make(chan struct{})
	var links sync.WaitGroup
	links.Go(func() {
		for no := uint32(1); ; no++ {
			l := upLink(o, no, V5, 1+int(no%9))
			var writer sync.WaitGroup
			writer.Go(func() { fakeWriter(o, l) })
			last := false
			select {
			case <-stop:
				last = true
			case <-cut:
			}
			l.kill(errors.New("cut"))
			writer.Wait()
			o.down(&l.sender, errors.New("cut"))
			if last {
				return
			}
		}
	})
	var publishers sync.WaitGroup
	for p := range 16 {
		publishers.Go(func() { publishAndFlush(t, o, p, cut) })
	}
	publishers.Wait()
	close(stop)
	links.Wait()
	o.shutdown(ErrClosed)
	<-o.ended
	if o.accepted != 0 || o.bytes != 0 {
		t.Errorf("%d accepted, %d bytes left", o.accepted, o.bytes)
	}
}

// publishAndFlush publishes a few messages at a time and waits for them; now and
// then it has the link cut.
func publishAndFlush(t *testing.T, o *outbound, p int, cut chan<- struct{}) {
	for i := range 150 {
		var futures []*Future
		for k := range 1 + (p+i)%5 {
			m := Message{Topic: "t", QoS: QoS((p + i + k) % 3), Payload: make([]byte, 1+(p*i)%600)}
			if (p+i)%11 == 0 {
				m.Payload = make([]byte, refSize+1)
				m = m.GiveAway()
			}
			futures = append(futures, o.publish(context.Background(), &m, true))
		}
		if i%10 == 5 {
			select {
			case cut <- struct{}{}:
			default:
			}
		}
		<-o.flush()
		for _, f := range futures {
			switch err := f.Err(); {
			case err == ErrPending:
				t.Error("Flush returned, and a Future of before is pending")
			case err != nil && !errors.Is(err, ErrLinkLost):
				t.Error(err)
			}
		}
	}
}

// Whatever acknowledgements a server makes up, nothing panics, the quota keeps its
// bounds, and each Future resolves at the end.
func FuzzAcks(f *testing.F) {
	f.Add([]byte{4, 1, 0, 5, 2, 0, 7, 2, 0, 9, 3, 0}, true)
	f.Add([]byte{5, 3, 0x80, 4, 3, 0, 11, 4, 0}, false)
	f.Fuzz(func(t *testing.T, script []byte, v5 bool) {
		v := V311
		if v5 {
			v = V5
		}
		o := newTestOutbound(testQueue(8))
		o.win.maxID = 12
		l := upLink(o, 1, v, 8)
		var futures []*Future
		var answered, dropped int
		for i := range 20 {
			futures = append(futures, publish(o, QoS(1+i%2), "p"))
			if i%7 == 0 {
				o.control(testControl(&answered, &dropped))
			}
		}
		for no := uint32(2); len(script) >= 3; script = script[3:] {
			writeAll(o, l)
			typ := codec.Type(script[0] & 15)
			switch typ {
			case codec.PUBACK, codec.PUBREC, codec.PUBCOMP, codec.SUBACK, codec.UNSUBACK:
				o.acks(&l.sender, []ackFact{{typ: typ, id: uint16(script[1]&15) + 1, code: codec.ReasonCode(script[2])}})
				turnAll(o)
			default:
				o.down(&l.sender, errors.New("cut"))
				l = newFakeLink(o, no, v, 1+int(script[1]&7))
				o.up(&l.sender, script[2]&1 == 0, 0, func() {})
				no++
			}
			if w := &o.win; w.quota < 0 || w.quota > w.limit || w.ids.Len() > int(w.maxID) {
				t.Fatalf("quota %d of %d, %d identifiers", w.quota, w.limit, w.ids.Len())
			}
		}
		o.down(&l.sender, errors.New("cut"))
		o.shutdown(ErrClosed)
		turnAll(o)
		for i, f := range futures {
			if f.Err() == ErrPending {
				t.Errorf("Future %d is pending at the end", i)
			}
		}
		if o.accepted != 0 || o.bytes != 0 || o.win.ids.Len() != 0 {
			t.Errorf("left: %d accepted, %d bytes, %d identifiers", o.accepted, o.bytes, o.win.ids.Len())
		}
	})
}
