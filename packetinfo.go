package mqtt

import "github.com/millrace/mqtt/codec"

// PacketInfo describes one packet that was sent or received, without its contents
// but for what [WithPacketPayload] asks for.
type PacketInfo struct {
	Sent     bool // false: received
	Type     PacketType
	PacketID uint16
	QoS      QoS
	Size     int    // of the whole packet in bytes
	Link     uint32 // number of the link, or of the one that an attempt would make
	Payload  []byte // of a PUBLISH, by WithPacketPayload; only until the hook returns
}

// identify fills in packet identifier and QoS.
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
