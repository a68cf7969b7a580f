package codec

// Type is a control packet type, the upper four bits of a packet's first byte (section 2.1.2).
type Type byte

// The control packet types. AUTH exists in MQTT 5.0 only.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

// String returns the name of the packet as the standard writes it, such as "PUBLISH".
func (t Type) String() string {
	switch t {
	case CONNECT:
		return "CONNECT"
	case CONNACK:
		return "CONNACK"
	case PUBLISH:
		return "PUBLISH"
	case PUBACK:
		return "PUBACK"
	case PUBREC:
		return "PUBREC"
	case PUBREL:
		return "PUBREL"
	case PUBCOMP:
		return "PUBCOMP"
	case SUBSCRIBE:
		return "SUBSCRIBE"
	case SUBACK:
		return "SUBACK"
	case UNSUBSCRIBE:
		return "UNSUBSCRIBE"
	case UNSUBACK:
		return "UNSUBACK"
	case PINGREQ:
		return "PINGREQ"
	case PINGRESP:
		return "PINGRESP"
	case DISCONNECT:
		return "DISCONNECT"
	case AUTH:
		return "AUTH"
	}
	return "reserved packet type"
}

// validIn reports whether packets of type t exist in version v.
func (t Type) validIn(v Version) bool {
	return t >= CONNECT && (t < AUTH || t == AUTH && v == V5)
}

// flags returns the value that the reserved flags of t are written with, 0 for PUBLISH whose flags mean something.
func (t Type) flags() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return 0b0010
	}
	return 0
}

// The flags of PUBLISH, section 3.3.1.
const (
	flagRetain = 0b0001
	flagDup    = 0b1000
)

// publishFlags has bit n set when PUBLISH may carry the flags n: no QoS 3
// [MQTT-3.3.1-4] and no DUP on QoS 0 [MQTT-3.3.1-2].
const publishFlags = 1<<0b0000 | 1<<0b0001 | 1<<0b0010 | 1<<0b0011 | 1<<0b0100 | 1<<0b0101 |
	1<<0b1010 | 1<<0b1011 | 1<<0b1100 | 1<<0b1101

// flagsValid reports whether a packet of type t may carry flags in version v [MQTT-2.1.3-1].
func flagsValid(v Version, t Type, flags byte) bool {
	if t == PUBLISH {
		return publishFlags>>(flags&0x0F)&1 == 1
	}
	want := t.flags()
	if v == V31 && want != 0 {
		flags &^= flagDup // in 3.1 these packets carry a DUP bit that is only a hint
	}
	return flags == want
}
