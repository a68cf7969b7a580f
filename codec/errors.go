package codec

import (
	"fmt"
	"strings"
)

// Error reports bytes that are not the packet they claim to be, or a packet
// that cannot be written. It never quotes the content of a packet.
type Error struct {
	// Type is the packet concerned, 0 when the text stood alone (CheckTopicName and its kin).
	Type Type
	// Code is the reason code that a DISCONNECT about this error carries in MQTT 5.0:
	// MalformedPacket, ProtocolError, PacketTooLarge, TopicAliasInvalid,
	// TopicNameInvalid, TopicFilterInvalid or UnsupportedProtocolVersion.
	Code ReasonCode
	// Offset is where in the packet's body (the bytes after the fixed header),
	// or in the text that was checked, the fault lies; -1 when it has no such place.
	Offset int
	// Detail says what is wrong, in words.
	Detail string
}

// Error says which packet, where and what, such as
// "mqtt: PUBLISH: byte 2: topic name: ill-formed UTF-8 (0x81 Malformed Packet)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("mqtt: ")
	if e.Type != 0 {
		b.WriteString(e.Type.String())
		b.WriteString(": ")
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, "byte %d: ", e.Offset)
	}
	fmt.Fprintf(&b, "%s (0x%02X %s)", e.Detail, byte(e.Code), e.Code)
	return b.String()
}

// nowhere is the Offset of an Error that concerns no single byte.
const nowhere = -1

func malformed(t Type, offset int, detail string) *Error {
	return &Error{Type: t, Code: MalformedPacket, Offset: offset, Detail: detail}
}

func protocolError(t Type, offset int, detail string) *Error {
	return &Error{Type: t, Code: ProtocolError, Offset: offset, Detail: detail}
}

// in places an error about a field into the packet that holds the field at offset base.
func (e *Error) in(t Type, base int, field string) *Error {
	e.Type = t
	if e.Offset >= 0 && base >= 0 {
		e.Offset += base
	} else {
		e.Offset = base
	}
	e.Detail = field + ": " + e.Detail
	return e
}

// asError keeps a nil *Error from becoming a non-nil error.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// errReasonCode reports a code that is not in the table of its packet, which is a protocol error.
func errReasonCode(t Type, v Version, offset int, c ReasonCode) *Error {
	return protocolError(t, offset, fmt.Sprintf("reason code 0x%02X is not one of %s in MQTT %s", byte(c), t, v))
}
