package mqtt

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// hookedLink is a link that shows hook its packets.
func hookedLink(v Version, hook func(PacketInfo), payload bool) *link {
	o := newTestOutbound(testQueue(100))
	l := newFakeLink(o, 1, v, 100)
	l.session.hooks.hook, l.session.hooks.payload = hook, payload
	o.up(&l.sender, true, 0, func() {})
	return l
}

// The hook sees payloads, both ways, only when asked: in the buffer, beside
// it, and none of what is no PUBLISH.
func TestPacketHookSeesPayloadsOnlyWhenAsked(t *testing.T) {
	big, copied := strings.Repeat("x", 2*refSize), strings.Repeat("y", refSize)
	for _, v := range []Version{V31, V311, V5} {
		for _, asked := range []bool{false, true} {
			var got []string
			l := hookedLink(v, func(p PacketInfo) {
				got = append(got, fmt.Sprintf("%v %d %s", p.Type, p.PacketID, p.Payload))
			}, asked)
			o := l.session.out
			for i, payload := range []string{"small", big, "", copied, big} {
				publish(o, QoS(1+i%2), payload)
			}
			o.appendLocked(&l.sender, codec.AppendPingreq)
			b, _ := takeBuffer(o, l)
			l.showSent(b)
			want := []string{"PUBLISH 1 small", "PUBLISH 2 " + big, "PUBLISH 3 ", "PUBLISH 4 " + copied, "PUBLISH 5 " + big, "PINGREQ 0 "}

			p := codec.Publish{QoS: 1, PacketID: 9, Topic: "t", Payload: []byte("in")}
			if v == V5 {
				p.Props = &codec.Properties{ContentType: "text"}
				p.Props.Present = p.Props.Present.With(codec.PropContentType)
			}
			packet := codec.AppendPublish(nil, v, &p)
			l.session.hooks.received(l.version, l.no, &codec.Frame{Type: codec.PUBLISH, Flags: packet[0] & 15, Size: len(packet), Body: packet[2:]})
			l.session.hooks.received(l.version, l.no, &codec.Frame{Type: codec.PUBLISH, Flags: 2, Size: 1 << 20, Body: packet[2:8], Oversize: true})
			l.session.hooks.received(l.version, l.no, &codec.Frame{Type: codec.PUBACK, Size: 4, Body: []byte{0, 3}})
			want = append(want, "PUBLISH 9 in", "PUBLISH 9 ", "PUBACK 3 ")
			for i, w := range want {
				if !asked {
					w = w[:strings.LastIndex(w, " ")+1]
				}
				if i >= len(got) || got[i] != w {
					t.Fatalf("%v, asked %t: packet %d of %d is %.60q, want %.60q", v, asked, i, len(got), got[min(i, len(got)-1)], w)
				}
			}
		}
	}
}

// The hook costs no allocation for each packet, with payloads or without.
func TestAllocsHook(t *testing.T) {
	for _, asked := range []bool{false, true} {
		n := 0
		l := hookedLink(V5, func(p PacketInfo) { n += len(p.Payload) }, asked)
		o := l.session.out
		publish(o, 1, "small")
		publish(o, 1, strings.Repeat("x", 2*refSize))
		b, _ := takeBuffer(o, l)
		in := codec.Frame{Type: codec.PUBLISH, Size: 8, Body: []byte{0, 1, 't', 0, 'x'}}
		if a := testing.AllocsPerRun(100, func() { l.showSent(b); l.session.hooks.received(l.version, l.no, &in) }); a > 0 {
			t.Errorf("asked %t: %.1f allocations", asked, a)
		}
		if (n > 0) != asked {
			t.Errorf("asked %t: %d B of payload", asked, n)
		}
	}
}
