package codec

import "fmt"

// ParseHeader reads the fixed header at the start of b, section 2.1: the packet
// type, its flags, the remaining length and n, the bytes that the header takes.
// n is 0, without an error, while b ends inside the header. The error is an
// *Error with code MalformedPacket: type 0, a remaining length of more than
// four bytes, or one that is not in its shortest form [MQTT-1.5.5-1]. Whether a
// version has the type and allows the flags, [CheckHeader] tells.
func ParseHeader(b []byte) (typ Type, flags byte, remaining, n int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, 0, nil
	}
	typ, flags = Type(b[0]>>4), b[0]&0x0F
	if typ == 0 {
		return 0, flags, 0, 0, malformed(0, nowhere, "packet type 0")
	}
	remaining, n = parseVarint(b[1:])
	switch {
	case n > 0:
		return typ, flags, remaining, 1 + n, nil
	case n == varintShort:
		return typ, flags, 0, 0, nil
	}
	return typ, flags, 0, 0, varintError(typ, nowhere, n, "remaining length")
}

// CheckHeader reports whether version v has packets of type typ with these
// flags: reserved flags as section 2.1.3 lists them [MQTT-2.1.3-1], in a
// PUBLISH no QoS 3 [MQTT-3.3.1-4] and no DUP on QoS 0 [MQTT-3.3.1-2]. In 3.1
// SUBSCRIBE, UNSUBSCRIBE and PUBREL may have their DUP bit set. The error is an
// *Error with code MalformedPacket.
func CheckHeader(v Version, typ Type, flags byte) error {
	return asError(checkHeader(v, typ, flags))
}

func checkHeader(v Version, typ Type, flags byte) *Error {
	if typ == 0 {
		return malformed(0, nowhere, "packet type 0")
	}
	if !typ.validIn(v) {
		return malformed(typ, nowhere, "no packet type of MQTT "+v.String())
	}
	if !flagsValid(v, typ, flags) {
		return malformed(typ, nowhere, fmt.Sprintf("wrong flags %04b in the fixed header", flags))
	}
	return nil
}
