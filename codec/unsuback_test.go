package codec

import (
	"slices"
	"testing"
)

var goldenUnsuback = slices.Concat(
	forVersions([]golden{{wire: "B002 0001", packet: &Unsuback{PacketID: 1}}}, V31, V311),
	[]golden{
		{version: V5, wire: "B006 0001 00 00 11 87", packet: &Unsuback{PacketID: 1, Codes: []ReasonCode{Success, NoSubscriptionExisted, NotAuthorized}}},
		{version: V5, wire: "B008 0001 04 1F 0001 72 00", packet: &Unsuback{PacketID: 1, Codes: []ReasonCode{Success},
			Props: &Properties{Present: set(PropReasonString), ReasonString: "r"}}},
	})

func TestUnsubackGolden(t *testing.T) { testGolden(t, goldenUnsuback) }

func TestUnsubackMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags", V5, "B204 0001 00 00", MalformedPacket},
		{"packet id 0", V311, "B002 0000", ProtocolError},
		{"no code", V5, "B003 0001 00", ProtocolError},
		{"property length missing", V5, "B002 0001", MalformedPacket},
		{"code not in its table [MQTT-3.11.3-2]", V5, "B004 0001 00 01", ProtocolError},
		{"bytes after the end", V311, "B003 0001 00", MalformedPacket},
	})
}

func TestUnsubackEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"packet id 0", V311, &Unsuback{}, ProtocolError},
		{"no code", V5, &Unsuback{PacketID: 1}, ProtocolError},
		{"code not in its table", V5, &Unsuback{PacketID: 1, Codes: []ReasonCode{GrantedQoS1}}, ProtocolError},
	})
}
