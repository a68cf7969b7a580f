package codec

import (
	"slices"
	"testing"
)

var goldenUnsubscribe = slices.Concat(
	forVersions([]golden{
		{wire: "A205 0001 0001 23", packet: &Unsubscribe{PacketID: 1, Filters: []string{"#"}}},
		{wire: "A20A 0102 0003 612F2B 0001 62", packet: &Unsubscribe{PacketID: 0x0102, Filters: []string{"a/+", "b"}}},
	}, V31, V311),
	[]golden{
		{version: V31, wire: "AA05 0001 0001 23", packet: &Unsubscribe{PacketID: 1, Filters: []string{"#"}}, oneWay: true},
		{version: V5, wire: "A206 0001 00 0001 23", packet: &Unsubscribe{PacketID: 1, Filters: []string{"#"}}},
		{version: V5, wire: "A216 0001 07 26 0001 6B 0001 76 000A 2473686172652F672F74",
			packet: &Unsubscribe{PacketID: 1, Filters: []string{"$share/g/t"}, Props: &Properties{User: []UserProperty{{"k", "v"}}}}},
	})

func TestUnsubscribeGolden(t *testing.T) { testGolden(t, goldenUnsubscribe) }

func TestUnsubscribeMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags [MQTT-3.10.1-1]", V5, "A006 0001 00 0001 23", MalformedPacket},
		{"DUP in 3.1.1", V311, "AA05 0001 0001 23", MalformedPacket},
		{"packet id 0", V311, "A205 0000 0001 23", ProtocolError},
		{"no filter [MQTT-3.10.3-2]", V5, "A203 0001 00", ProtocolError},
		{"no filter", V311, "A202 0001", ProtocolError},
		{"filter runs past the packet", V311, "A205 0001 0002 23", MalformedPacket},
		{"ill-formed filter [MQTT-3.10.3-1]", V311, "A205 0001 0001 FF", MalformedPacket},
		{"wildcard", V311, "A206 0001 0002 612B", TopicFilterInvalid},
		{"Subscription Identifier", V5, "A208 0001 02 0B01 0001 23", MalformedPacket},
	})
}

func TestUnsubscribeEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"packet id 0", V5, &Unsubscribe{Filters: []string{"a"}}, ProtocolError},
		{"no filter [MQTT-3.10.3-2]", V5, &Unsubscribe{PacketID: 1}, ProtocolError},
		{"ill-formed filter [MQTT-3.10.3-1]", V311, &Unsubscribe{PacketID: 1, Filters: []string{"a", "\xFF"}}, MalformedPacket},
	})
}
