package codec

import "testing"

var goldenConnack = []golden{
	{version: V31, wire: "2002 00 00", packet: &Connack{}},
	{version: V31, wire: "2002 00 05", packet: &Connack{Code: 5}},
	{version: V31, wire: "2002 01 00", packet: &Connack{}, oneWay: true}, // 3.1: a reserved byte
	{version: V31, wire: "2002 FF 00", packet: &Connack{}, oneWay: true},
	{version: V311, wire: "2002 01 00", packet: &Connack{SessionPresent: true}},
	{version: V311, wire: "2002 00 04", packet: &Connack{Code: 4}},
	{version: V5, wire: "2003 00 00 00", packet: &Connack{}},
	{version: V5, wire: "2003 01 00 00", packet: &Connack{SessionPresent: true}},
	{version: V5, wire: "200A 00 87 07 1F 0004 6E6F7065",
		packet: &Connack{Code: NotAuthorized, Props: &Properties{Present: set(PropReasonString), ReasonString: "nope"}}},
	{version: V5, wire: "203B 01 00 38" +
		"1100000001 12 0001 69 13003C 15 0001 6D 16 0001 FF 1A 0001 72 1C 0001 73 210002 220003 2401 2501 26 0001 6B 0001 76 2700001000 2800 2900 2A00",
		packet: &Connack{SessionPresent: true, Props: &Properties{
			Present: set(PropSessionExpiryInterval, PropAssignedClientIdentifier, PropServerKeepAlive, PropAuthenticationMethod,
				PropAuthenticationData, PropResponseInformation, PropServerReference, PropReceiveMaximum, PropTopicAliasMaximum,
				PropMaximumQoS, PropRetainAvailable, PropMaximumPacketSize, PropWildcardSubscriptionAvailable,
				PropSubscriptionIdentifierAvailable, PropSharedSubscriptionAvailable),
			SessionExpiry: 1, AssignedClientID: "i", ServerKeepAlive: 60, AuthMethod: "m", AuthData: []byte{0xFF}, ResponseInfo: "r",
			ServerReference: "s", ReceiveMaximum: 2, TopicAliasMaximum: 3, MaximumQoS: 1, RetainAvailable: 1, MaximumPacketSize: 4096,
			User: []UserProperty{{"k", "v"}},
		}}},
	// a 3.x server refuses the version of a 5.0 CONNECT
	{version: V5, wire: "2002 00 01", packet: &Connack{Code: 1, Short: true}},
	{version: V5, wire: "2002 00 84", packet: &Connack{Code: UnsupportedProtocolVersion, Short: true}},
}

func TestConnackGolden(t *testing.T) { testGolden(t, goldenConnack) }

func TestConnackMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags [MQTT-3.2.2-1]", V5, "2003 02 00 00", MalformedPacket},
		{"flags [MQTT-3.2.2-1]", V5, "2003 80 00 00", MalformedPacket},
		{"flags in 3.1.1", V311, "2002 FE 00", MalformedPacket},
		{"flags in a version refusal", V5, "2002 02 01", MalformedPacket},
		{"code not in its table [MQTT-3.2.2-8]", V5, "2003 00 01 00", ProtocolError},
		{"code not in its table [MQTT-3.2.2-8]", V5, "2003 00 FF 00", ProtocolError},
		{"property length missing", V5, "2002 00 00", MalformedPacket},
		{"3.x refusal of another kind", V5, "2002 00 05", ProtocolError},
		{"property length > packet", V5, "2003 00 00 05", MalformedPacket},
		{"property cut off", V5, "2004 00 00 01 21", MalformedPacket},
		{"property value cut off", V5, "2005 00 00 02 21 00", MalformedPacket},
		{"unknown property", V5, "2005 00 00 02 04 01", MalformedPacket},
		{"byte property out of range", V5, "2005 00 00 02 24 02", ProtocolError},
		{"Receive Maximum 0", V5, "2006 00 00 03 21 0000", ProtocolError},
		{"Maximum Packet Size 0", V5, "2008 00 00 05 27 00000000", ProtocolError},
		{"repeated", V5, "200B 00 00 08 1F000170 1F000171", ProtocolError},
		{"Authentication Data without method", V5, "2007 00 00 04 16 0001 FF", ProtocolError},
		{"bytes after the end", V5, "2004 00 00 00 00", MalformedPacket},
		{"bytes after the end", V311, "2003 00 00 00", MalformedPacket},
		{"cut off", V311, "2001 00", MalformedPacket},
		{"empty", V5, "2000", MalformedPacket},
		{"wrong header flags", V5, "2103 00 00 00", MalformedPacket},
	})
}

// A return code that 3.x reserves is a refusal all the same.
func TestConnackOf3RefusesByAnyCode(t *testing.T) {
	for _, v := range []Version{V31, V311} {
		for code := 1; code <= 0xFF; code++ {
			var p Connack
			if err := p.Decode(v, []byte{0, byte(code)}); err != nil || p.Code != ReasonCode(code) {
				t.Errorf("%s, %02x: %+v, %v", v, code, p, err)
			}
		}
	}
}

func TestConnackEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"code not in its table", V5, &Connack{Code: 1}, ProtocolError},
		{"code of 5.0 in 3.x", V311, &Connack{Code: NotAuthorized}, ProtocolError},
		{"short form of another code", V5, &Connack{Code: 5, Short: true}, ProtocolError},
		{"property of another packet", V5, &Connack{Props: &Properties{Present: set(PropTopicAlias), TopicAlias: 1}}, MalformedPacket},
		{"property out of range", V5, &Connack{Props: &Properties{Present: set(PropMaximumQoS), MaximumQoS: 2}}, ProtocolError},
	})
}
