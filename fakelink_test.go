package mqtt

import (
	"fmt"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
)

// The tests of the pure parts drive outbound as link, writer and goroutine of the
// window would, one step at a time and in one goroutine.

// deadConn is the socket of a link whose writer is the test.
type deadConn struct{ net.Conn }

func (deadConn) SetWriteDeadline(time.Time) error { return nil }
func (deadConn) Close() error                     { return nil }

// newFakeLink makes a link of version v that carries everything, with a Receive
// Maximum of quota.
func newFakeLink(o *outbound, no uint32, v Version, quota int) *link {
	l := &link{
		session: &session{out: o},
		sender: sender{
			no: no, version: v, agreed: agreed{version: v, receiveMaximum: quota, maximumPacket: maxPacket, maximumQoS: 2},
			sendQueue: sendQueue{out: new(sendBuffer)},
			idle:      true,
		},
		socket: socket{nc: deadConn{}, piece: writePiece, began: time.Now()},
	}
	l.prepare(o)
	return l
}

// testQueue is a queue without limits that matter and with windows of n.
func testQueue(n int) queueConfig {
	return queueConfig{messages: 1 << 20, bytes: 1 << 30, inflight3: n, inflight5: n}
}

func newTestOutbound(cfg queueConfig) *outbound {
	return newOutbound(cfg, func(Event) {})
}

// sentPacket is a packet that a fake link was given to write.
type sentPacket struct {
	typ     codec.Type
	dup     bool
	qos     QoS
	id      uint16
	topic   string
	payload string
	code    codec.ReasonCode
	size    int
}

func (p sentPacket) String() string {
	s := fmt.Sprintf("%v %d", p.typ, p.id)
	if p.typ == codec.PUBLISH {
		s = fmt.Sprintf("PUBLISH q%d id=%d %q", p.qos, p.id, p.payload[:min(len(p.payload), 16)])
	}
	if p.dup {
		s += " DUP"
	}
	if p.code != 0 {
		s += " " + p.code.String()
	}
	return s
}

// parseSent cuts what a client wrote into packets.
func parseSent(v Version, b []byte) []sentPacket {
	var all []sentPacket
	for len(b) > 0 {
		t, flags, rest, n, err := codec.ParseHeader(b)
		if err != nil || n == 0 || len(b) < n+rest {
			panic(fmt.Sprintf("not a whole packet: % x (%v)", b[:min(len(b), 32)], err))
		}
		p := sentPacket{typ: t, size: n + rest}
		body := b[n : n+rest]
		switch t {
		case codec.PUBLISH:
			var w codec.PublishView
			if err := w.Decode(v, flags, body); err != nil {
				panic(err)
			}
			p.dup, p.qos, p.id, p.topic, p.payload = w.Dup, QoS(w.QoS), w.PacketID, string(w.Topic), string(w.Payload)
		case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
			var a codec.Ack
			if err := a.Decode(v, t, body); err != nil {
				panic(err)
			}
			p.id, p.code = a.PacketID, a.Code
		case codec.SUBSCRIBE, codec.UNSUBSCRIBE:
			p.id = uint16(body[0])<<8 | uint16(body[1])
		}
		all = append(all, p)
		b = b[n+rest:]
	}
	return all
}

// takeBuffer takes the next buffer as the writer does, nil when there is nothing to
// write, and cuts it into packets. The buffer is in the writer's hands until wrote.
func takeBuffer(o *outbound, l *link) (*sendBuffer, []sentPacket) {
	b := o.swap(&l.sender, new(sendBuffer))
	if b == nil {
		return nil, nil
	}
	var bytes []byte
	for _, p := range b.section(nil, 0, len(b.buf), 1<<30) {
		bytes = append(bytes, p...)
	}
	if len(bytes) != len(b.buf)+b.beside {
		panic("length of a buffer is not that of its pieces")
	}
	return b, parseSent(l.version, bytes)
}

// writeAll writes until there is nothing left and returns the packets.
func writeAll(o *outbound, l *link) []sentPacket {
	var all []sentPacket
	for {
		b, packets := takeBuffer(o, l)
		if b == nil {
			return all
		}
		all = append(all, packets...)
		o.wrote(&l.sender, b, nil)
	}
}

// turnAll does what the window's goroutine does until nothing is left.
func turnAll(o *outbound) {
	var w resolver
	for more := true; more; {
		more, _ = w.turn(o)
	}
}

// ackOne brings one acknowledgement and has it carried out.
func ackOne(o *outbound, l *link, t codec.Type, id uint16, code codec.ReasonCode) {
	o.acks(&l.sender, []ackFact{{typ: t, id: id, code: code}})
	turnAll(o)
}

// testControl is a SUBSCRIBE of one filter that counts what becomes of it.
func testControl(answered, dropped *int) *control {
	return &control{
		packet: codec.SUBSCRIBE,
		encode: func(dst []byte, v Version, id uint16) []byte {
			b, err := codec.AppendSubscribe(dst, v, &codec.Subscribe{PacketID: id, Subscriptions: []codec.Subscription{{Filter: "f"}}})
			if err != nil {
				panic(err)
			}
			return b
		},
		answered: func(uint32, []codec.ReasonCode, *answer) error { *answered++; return nil },
		dropped:  func() { *dropped++ },
	}
}
