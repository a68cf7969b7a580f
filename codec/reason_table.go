package codec

import "strings"

// The reason codes that each packet may carry in MQTT 5.0, one byte a code.
const (
	connackCodes    = "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8C\x90\x95\x97\x99\x9A\x9B\x9C\x9D\x9F"
	pubackCodes     = "\x00\x10\x80\x83\x87\x90\x91\x97\x99"
	pubrelCodes     = "\x00\x92"
	subackCodes     = "\x00\x01\x02\x80\x83\x87\x8F\x91\x97\x9E\xA1\xA2"
	unsubackCodes   = "\x00\x11\x80\x83\x87\x8F\x91"
	disconnectCodes = "\x00\x04\x80\x81\x82\x83\x87\x89\x8B\x8C\x8D\x8E\x8F\x90\x93\x94\x95\x96\x97\x98\x99\x9A\x9B\x9C\x9D\x9E\x9F\xA0\xA1\xA2"
	authCodes       = "\x00\x18\x19"

	connackCodes3 = "\x00\x01\x02\x03\x04\x05" // return codes, 3.1.1 section 3.2.2.3
	subackCodes3  = "\x00\x01\x02\x80"         // [MQTT-3.9.3-2]; 3.1 servers send 0x80 too
)

// ValidFor reports whether a packet of type t may carry c in version v, in
// either direction: [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1],
// [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
// [MQTT-3.14.2-1], [MQTT-3.15.2-1]. DISCONNECT counts 0x8C, which section 2.4
// lists for it and section 3.14.2.1 does not. It is false for packets without
// a reason code; 3.x acks and DISCONNECT have only Success.
func (c ReasonCode) ValidFor(t Type, v Version) bool {
	return strings.IndexByte(codesOf(t, v), byte(c)) >= 0
}

// refuses reports whether a 3.x server says by c that it refuses the CONNECT or
// one filter, though c is not in the table of that version: brokers that speak
// several versions send the codes of 5.0 there, as ejabberd does. Such a code is
// read and never written.
func (c ReasonCode) refuses(t Type, v Version) bool {
	return v != V5 && (t == SUBACK && c.IsError() || t == CONNACK && c != Success)
}

func codesOf(t Type, v Version) string {
	if v != V5 {
		return codesOf3(t)
	}
	switch t {
	case CONNACK:
		return connackCodes
	case PUBACK, PUBREC:
		return pubackCodes
	case PUBREL, PUBCOMP:
		return pubrelCodes
	case SUBACK:
		return subackCodes
	case UNSUBACK:
		return unsubackCodes
	case DISCONNECT:
		return disconnectCodes
	case AUTH:
		return authCodes
	}
	return ""
}

func codesOf3(t Type) string {
	switch t {
	case CONNACK:
		return connackCodes3
	case SUBACK:
		return subackCodes3
	case PUBACK, PUBREC, PUBREL, PUBCOMP, UNSUBACK, DISCONNECT:
		return "\x00"
	}
	return ""
}

// ConnectReturnCodeString returns the text of a 3.x CONNACK return code, 0 to
// 5 (3.1.1 section 3.2.2.3), and "reserved return code" for anything else.
func ConnectReturnCodeString(c byte) string {
	switch c {
	case 0:
		return "Connection accepted"
	case 1:
		return "Connection refused, unacceptable protocol version"
	case 2:
		return "Connection refused, identifier rejected"
	case 3:
		return "Connection refused, server unavailable"
	case 4:
		return "Connection refused, bad user name or password"
	case 5:
		return "Connection refused, not authorized"
	}
	return "reserved return code"
}
