package mqtt

import (
	"github.com/millrace/mqtt/codec"
)

// This file keeps what the protocol makes us send within a server's Maximum Packet
// Size [MQTT-3.2.2-15], which may be as low as 1. Publishes and requests that do not
// fit are refused where they are made; an acknowledgement or a ping cannot be.

// maxAck is the largest acknowledgement that this client sends, in bytes.
const maxAck = 5

// fitAcks makes the acknowledgements in packets, in place, no larger than limit. The
// reason code "Packet Identifier not found" is left out where it does not fit: the
// answer counts without it.
func fitAcks(packets []byte, limit int) ([]byte, error) {
	fit := packets[:0]
	for rest := packets; len(rest) > 0; {
		n := 2 + int(rest[1])
		p := rest[:n]
		rest = rest[n:]
		if n == maxAck && n > limit && codec.ReasonCode(p[4]) == codec.PacketIdentifierNotFound {
			n = 4
			p[1] = 2
		}
		if n > limit {
			return nil, noRoom(codec.Type(p[0]>>4), n, limit)
		}
		fit = append(fit, p[:n]...)
	}
	return fit, nil
}
