package mqtt

import "github.com/millrace/mqtt/codec"

// PacketInfo describes one packet that was sent or received. It has no contents, except
// the payload that [WithPacketPayload] asks for.
type PacketInfo struct {
	Sent     bool // false: received
	Type     PacketType
	PacketID uint16
	QoS      QoS
	Size     int    // of the whole packet in bytes
	Link     uint32 // number of the link, during an attempt of the one that it would make
	Payload  []byte // of a PUBLISH, with WithPacketPayload; not valid after the hook has returned
}

// identify sets the packet identifier and the QoS from the first byte's flags and the body.
func (p *PacketInfo) identify(t codec.Type, flags byte, body []byte) {
	at := 0
	switch t {
	case codec.PUBLISH:
		p.QoS = QoS(flags >> 1 & 3)
		if p.QoS == 0 || len(body) < 2 {
			return
		}
		at = 2 + int(body[0])<<8 + int(body[1])
	case codec.CONNECT, codec.CONNACK, codec.PINGREQ, codec.PINGRESP, codec.DISCONNECT, codec.AUTH:
		return
	}
	if len(body) >= at+2 {
		p.PacketID = uint16(body[at])<<8 | uint16(body[at+1])
	}
}
