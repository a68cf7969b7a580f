package codec

import (
	"slices"
	"testing"
)

var goldenAck = slices.Concat(
	forVersions([]golden{
		{wire: "4002 0001", packet: &Ack{Type: PUBACK, PacketID: 1}},
		{wire: "5002 FFFF", packet: &Ack{Type: PUBREC, PacketID: 65535}},
		{wire: "6202 0102", packet: &Ack{Type: PUBREL, PacketID: 0x0102}},
		{wire: "7002 0001", packet: &Ack{Type: PUBCOMP, PacketID: 1}},
	}, versions...),
	[]golden{
		// 3.1 lets a PUBREL carry DUP
		{version: V31, wire: "6A02 0001", packet: &Ack{Type: PUBREL, PacketID: 1}, oneWay: true},
		{version: V5, wire: "4003 0001 10", packet: &Ack{Type: PUBACK, PacketID: 1, Code: NoMatchingSubscribers}},
		{version: V5, wire: "5003 0001 97", packet: &Ack{Type: PUBREC, PacketID: 1, Code: QuotaExceeded}},
		{version: V5, wire: "6203 0001 92", packet: &Ack{Type: PUBREL, PacketID: 1, Code: PacketIdentifierNotFound}},
		{version: V5, wire: "7003 0001 92", packet: &Ack{Type: PUBCOMP, PacketID: 1, Code: PacketIdentifierNotFound}},
		{version: V5, wire: "400A 0001 87 06 1F 0003 6E6F6E",
			packet: &Ack{Type: PUBACK, PacketID: 1, Code: NotAuthorized, Props: RawProperties("\x1F\x00\x03non")}},
		{version: V5, wire: "620B 0001 00 07 26 0001 6B 0001 76",
			packet: &Ack{Type: PUBREL, PacketID: 1, Props: RawProperties("\x26\x00\x01k\x00\x01v")}},
		// longer than need be
		{version: V5, wire: "4003 0001 00", packet: &Ack{Type: PUBACK, PacketID: 1}, oneWay: true},
		{version: V5, wire: "5004 0001 00 00", packet: &Ack{Type: PUBREC, PacketID: 1}, oneWay: true},
		{version: V5, wire: "7004 0001 92 00", packet: &Ack{Type: PUBCOMP, PacketID: 1, Code: PacketIdentifierNotFound}, oneWay: true},
	})

func TestAckGolden(t *testing.T) { testGolden(t, goldenAck) }

func TestAckMalformed(t *testing.T) {
	cases := []malformedCase{
		{"wrong header flags [MQTT-2.1.3-1]", V5, "4102 0001", MalformedPacket},
		{"PUBREL flags [MQTT-3.6.1-1]", V5, "6002 0001", MalformedPacket},
		{"PUBREL with DUP", V311, "6A02 0001", MalformedPacket},
		{"code not in its table [MQTT-3.4.2-1]", V5, "4004 0001 FF 00", ProtocolError},
		{"code of PUBREL in PUBACK", V5, "4003 0001 92", ProtocolError},
		{"code of PUBACK in PUBREL [MQTT-3.6.2-1]", V5, "6203 0001 10", ProtocolError},
		{"code of PUBREC in PUBCOMP [MQTT-3.7.2-1]", V5, "7003 0001 97", ProtocolError},
		{"property of another packet", V5, "4006 0001 00 02 0100", MalformedPacket},
		{"Reason String twice", V5, "400C 0001 00 08 1F000170 1F000171", ProtocolError},
	}
	for _, typ := range []string{"40", "50", "62", "70"} {
		cases = append(cases,
			malformedCase{"packet id 0 [MQTT-2.2.1-4]", V5, typ + "02 0000", ProtocolError},
			malformedCase{"packet id 0", V311, typ + "02 0000", ProtocolError},
			malformedCase{"ends inside a field", V5, typ + "01 01", MalformedPacket},
			malformedCase{"empty", V311, typ + "00", MalformedPacket},
			malformedCase{"bytes after the end", V5, typ + "05 0001 00 00 00", MalformedPacket},
			malformedCase{"bytes after the end", V311, typ + "03 0001 00", MalformedPacket},
			malformedCase{"property length > packet", V5, typ + "04 0001 00 05", MalformedPacket},
			malformedCase{"code not in its table", V5, typ + "03 0001 01", ProtocolError},
		)
	}
	testMalformed(t, cases)
}

func TestAckDecodeWrongType(t *testing.T) {
	var a Ack
	wantCode(t, a.Decode(V5, SUBACK, []byte{0, 1, 0}), MalformedPacket)
}

// 3.x acks have neither code nor properties; what is given is left out.
func TestAppendAckIn3(t *testing.T) {
	b := AppendAck(nil, V311, PUBACK, 1, NotAuthorized, &Properties{User: []UserProperty{{"k", "v"}}})
	if string(b) != "\x40\x02\x00\x01" {
		t.Errorf("% x", b)
	}
}
