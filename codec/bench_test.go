package codec

import (
	"bytes"
	"fmt"
	"testing"
)

// hotPublish is the message of the benchmarks: 64 bytes of payload, a topic of four levels.
func hotPublish(qos byte) *Publish {
	return &Publish{QoS: qos, PacketID: uint16(qos) * 7, Topic: "plant/7/line/temp", Payload: bytes.Repeat([]byte{'x'}, 64)}
}

func hotProps() *Properties {
	p := &Properties{MessageExpiry: 60, ContentType: "text/plain", ResponseTopic: "re/7", CorrelationData: []byte("12345678"),
		SubscriptionIDs: []uint32{7}, User: []UserProperty{{"trace", "00-4bf92f3577b34da6"}}}
	p.Present = p.Present.With(PropMessageExpiryInterval).With(PropContentType).With(PropResponseTopic).With(PropCorrelationData)
	return p
}

func BenchmarkAppendPublish(b *testing.B) {
	for _, v := range versions {
		for qos := range byte(2) {
			b.Run(fmt.Sprintf("%s/qos%d", v, qos), func(b *testing.B) {
				p := hotPublish(qos)
				dst := make([]byte, 0, 256)
				b.ReportAllocs()
				for b.Loop() {
					dst = AppendPublish(dst[:0], v, p)
				}
			})
		}
	}
	b.Run("5.0/props", func(b *testing.B) {
		p := hotPublish(1)
		p.Props = hotProps()
		dst := make([]byte, 0, 256)
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendPublish(dst[:0], V5, p)
		}
	})
}

func BenchmarkDecodePublish(b *testing.B) {
	for _, v := range versions {
		for qos := range byte(2) {
			b.Run(fmt.Sprintf("%s/qos%d", v, qos), func(b *testing.B) { benchDecode(b, v, hotPublish(qos)) })
		}
	}
	p := hotPublish(1)
	p.Props = hotProps()
	b.Run("5.0/props", func(b *testing.B) { benchDecode(b, V5, p) })
}

func benchDecode(b *testing.B, v Version, p *Publish) {
	wire := AppendPublish(nil, v, p)
	body := wire[2:]
	if len(wire) > 129 {
		body = wire[3:]
	}
	var view PublishView
	b.ReportAllocs()
	for b.Loop() {
		if err := view.Decode(v, wire[0]&15, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePublishLayout(b *testing.B) {
	wire := AppendPublish(nil, V5, hotPublish(1))
	var view PublishView
	for b.Loop() {
		if err := view.DecodeLayout(V5, wire[0]&15, wire[2:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendAck(b *testing.B) {
	dst := make([]byte, 0, 64)
	for b.Loop() {
		dst = AppendAck(dst[:0], V5, PUBACK, 7, Success, nil)
	}
}

func BenchmarkDecodeAck(b *testing.B) {
	body := []byte{0, 7}
	var a Ack
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Decode(V5, PUBACK, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckTopicName(b *testing.B) {
	for _, topic := range []string{"plant/7/line/temp", "Werk/7/Straße/Wärme"} {
		b.Run(topic, func(b *testing.B) {
			for b.Loop() {
				if err := CheckTopicName(topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFramer is the time for one packet of a stream of small ones, framing only.
func BenchmarkFramer(b *testing.B) {
	one := AppendPublish(nil, V5, hotPublish(1))
	r := &endless{data: bytes.Repeat(one, 1000)}
	f := NewFramer(V5, 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		for {
			_, ok, err := f.Next()
			if err != nil {
				b.Fatal(err)
			}
			if ok {
				break
			}
			if _, err := f.Fill(r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkFramerLarge is the time for one packet of 256 KiB.
func BenchmarkFramerLarge(b *testing.B) {
	p := hotPublish(1)
	p.Payload = make([]byte, 256<<10)
	one := AppendPublish(nil, V5, p)
	r := &endless{data: one}
	f := NewFramer(V5, 0)
	b.ReportAllocs()
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		for {
			if _, ok, _ := f.Next(); ok {
				break
			}
			if _, err := f.Fill(r); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// endless reads data again and again.
type endless struct {
	data []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.data[e.at:])
	e.at = (e.at + n) % len(e.data)
	return n, nil
}
