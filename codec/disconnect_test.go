package codec

import "testing"

var goldenDisconnect = append(
	forVersions([]golden{{wire: "E000", packet: &Disconnect{}}}, versions...),
	golden{version: V5, wire: "E001 8E", packet: &Disconnect{Code: SessionTakenOver}},
	golden{version: V5, wire: "E001 04", packet: &Disconnect{Code: DisconnectWithWill}},
	golden{version: V5, wire: "E001 00", packet: &Disconnect{}, oneWay: true},
	golden{version: V5, wire: "E002 00 00", packet: &Disconnect{}, oneWay: true},
	golden{version: V5, wire: "E007 00 05 11 0000003C", packet: &Disconnect{Props: &Properties{Present: set(PropSessionExpiryInterval), SessionExpiry: 60}}},
	golden{version: V5, wire: "E011 9D 0F 1C 0001 73 1F 0001 72 26 0001 6B 0001 76", packet: &Disconnect{Code: ServerMoved,
		Props: &Properties{Present: set(PropServerReference, PropReasonString), ServerReference: "s", ReasonString: "r", User: []UserProperty{{"k", "v"}}}}},
)

func TestDisconnectGolden(t *testing.T) { testGolden(t, goldenDisconnect) }

func TestDisconnectMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags [MQTT-3.14.1-1]", V5, "E100", MalformedPacket},
		{"flags", V311, "E200", MalformedPacket},
		{"code not in its table [MQTT-3.14.2-1]", V5, "E001 01", ProtocolError},
		{"code not in its table", V5, "E001 FF", ProtocolError},
		{"bytes after the end", V5, "E003 00 00 00", MalformedPacket},
		{"bytes after the end", V311, "E001 00", MalformedPacket},
		{"property length > packet", V5, "E002 00 05", MalformedPacket},
		{"property of another packet", V5, "E005 00 03 210001", MalformedPacket},
	})
}

func TestDisconnectEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"code not in its table", V5, &Disconnect{Code: 1}, ProtocolError},
		// it would read as a normal end and cancel the will
		{"a code in 3.x", V311, &Disconnect{Code: DisconnectWithWill}, ProtocolError},
		{"reason string too long", V5, &Disconnect{Props: &Properties{Present: set(PropReasonString), ReasonString: long}}, MalformedPacket},
	})
}
