package mqtt

import (
	"fmt"

	"github.com/millrace/mqtt/codec"
)

// This file keeps what the protocol makes us send within a server's Maximum Packet
// Size [MQTT-3.2.2-15], which may be as low as 1. Publishes and requests that do not
// fit are refused where they are made; an acknowledgement or a ping cannot be.

// maxAck is the largest acknowledgement that this client sends, in bytes.
const maxAck = 5

// noRoomError ends a link whose server takes no packet of the size that is owed.
type noRoomError struct {
	packet codec.Type
	size   PacketTooLargeError
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("mqtt: the server's Maximum Packet Size leaves no room for %s: %s", e.packet, trimPrefix(&e.size))
}

// Unwrap makes it a *[PacketTooLargeError].
func (e *noRoomError) Unwrap() error { return &e.size }

func noRoom(t codec.Type, size, limit int) error {
	return &noRoomError{t, PacketTooLargeError{Size: size, Max: limit}}
}

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
