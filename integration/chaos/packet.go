package chaos

import (
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/tape"
)

// message is a message of a lane.
type message struct{ lane, n int }

// packet is what a tape shows of a packet that belongs to a message.
type packet struct {
	down bool // from the broker
	kind codec.Type
	id   uint16
	code codec.ReasonCode // of an acknowledgement
	m    message          // of a PUBLISH
}

// refused reports whether an acknowledgement says that the message was not taken.
func (p packet) refused() bool { return p.code >= 0x80 }

// decode returns the packet that a tape shows; ok is false for one that belongs
// to no message. The topic may be an alias, so the QoS tells the lane.
func decode(t tape.Packet) (p packet, ok bool, err error) {
	p.down, p.kind = t.Down, t.Frame.Type
	switch p.kind {
	case codec.PUBLISH:
		var v codec.PublishView
		if err := v.Decode(t.Version, t.Frame.Flags, t.Frame.Body); err != nil {
			return p, false, err
		}
		if v.QoS == 0 {
			return p, false, nil
		}
		n, _ := parse(v.Payload)
		p.id, p.m = v.PacketID, message{int(v.QoS) - 1, n}
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		var a codec.Ack
		if err := a.Decode(t.Version, p.kind, t.Frame.Body); err != nil {
			return p, false, err
		}
		p.id, p.code = a.PacketID, a.Code
	default:
		return p, false, nil
	}
	return p, true, nil
}
