package server

import "fmt"

var packetNames = [16]string{
	"type 0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
}

// wholePacket returns the length of the packet that b begins with, 0 while that is not known or
// not all of it is there, or -1 if its remaining length has more than four bytes. It reads the
// bytes itself: the script checks the wire without the codec that the client uses.
func wholePacket(b []byte) int {
	length, shift := 0, 0
	for i := 1; i < len(b); i++ {
		length |= int(b[i]&0x7F) << shift
		if b[i] < 0x80 {
			if total := i + 1 + length; total <= len(b) {
				return total
			}
			return 0
		}
		if shift += 7; shift > 21 {
			return -1
		}
	}
	return 0
}

// describe names the packets in b for a failure text: "PUBLISH QoS 1 DUP, 9 bytes; PINGREQ, 2 bytes".
func describe(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	text := ""
	for count := 0; len(b) > 0; count++ {
		if count > 0 {
			text += "; "
		}
		if count == 8 {
			return text + fmt.Sprintf("%d more bytes", len(b))
		}
		n := wholePacket(b)
		if n <= 0 {
			return text + fmt.Sprintf("%s, incomplete (%d bytes)", describeHeader(b[0]), len(b))
		}
		text += fmt.Sprintf("%s, %d bytes", describeHeader(b[0]), n)
		b = b[n:]
	}
	return text
}

func describeHeader(first byte) string {
	text := packetNames[first>>4]
	if text != "PUBLISH" {
		return text
	}
	text += fmt.Sprintf(" QoS %d", first>>1&3)
	if first&8 != 0 {
		text += " DUP"
	}
	if first&1 != 0 {
		text += " RETAIN"
	}
	return text
}
