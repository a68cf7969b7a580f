package codec

import "testing"

var goldenConnect = []golden{
	{version: V31, wire: "1010 0006 4D5149736470 03 02 003C 0002 6964",
		packet: &Connect{Version: V31, ClientID: "id", CleanStart: true, KeepAlive: 60}},
	{version: V311, wire: "100C 0004 4D515454 04 00 0000 0000",
		packet: &Connect{Version: V311}},
	{version: V311, wire: "101D 0004 4D515454 04 F6 000A 0001 63 0003 742F77 0002 FFFE 0001 75 0002 0070",
		packet: &Connect{Version: V311, ClientID: "c", CleanStart: true, KeepAlive: 10, HasUsername: true, Username: "u",
			HasPassword: true, Password: []byte{0, 'p'}, Will: &Will{Topic: "t/w", Payload: []byte{0xFF, 0xFE}, QoS: 2, Retain: true}}},
	// user name and will payload present and empty [MQTT-3.1.2-9], [MQTT-3.1.2-16]
	{version: V311, wire: "1014 0004 4D515454 04 86 0000 0001 63 0001 77 0000 0000",
		packet: &Connect{Version: V311, ClientID: "c", CleanStart: true, HasUsername: true, Will: &Will{Topic: "w", Payload: []byte{}}}},
	// 3.1: the remaining length takes precedence over the user name and password flags
	{version: V31, wire: "100F 0006 4D5149736470 03 C2 0000 0001 63", oneWay: true,
		packet: &Connect{Version: V31, ClientID: "c", CleanStart: true}},
	{version: V5, wire: "100F 0004 4D515454 05 02 003C 00 0002 6964",
		packet: &Connect{Version: V5, ClientID: "id", CleanStart: true, KeepAlive: 60}},
	// password without user name [MQTT-3.1.2-18]
	{version: V5, wire: "1010 0004 4D515454 05 42 0000 00 0000 0001 70",
		packet: &Connect{Version: V5, CleanStart: true, HasPassword: true, Password: []byte("p")}},
	{version: V5, wire: "1044 0004 4D515454 05 0E 0000" +
		"23 1100000E10 15 0001 6D 16 0001 FF 1700 1901 210014 22000A 26 0001 6B 0001 76 2700100000" +
		"0001 63" + "0C 0101 0200000005 1800000007" + "0001 77" + "0001 78",
		packet: &Connect{Version: V5, ClientID: "c", CleanStart: true,
			Props: &Properties{
				Present: set(PropSessionExpiryInterval, PropAuthenticationMethod, PropAuthenticationData, PropRequestProblemInformation,
					PropRequestResponseInformation, PropReceiveMaximum, PropTopicAliasMaximum, PropMaximumPacketSize),
				SessionExpiry: 3600, AuthMethod: "m", AuthData: []byte{0xFF}, RequestResponseInfo: 1,
				ReceiveMaximum: 20, TopicAliasMaximum: 10, MaximumPacketSize: 1 << 20, User: []UserProperty{{"k", "v"}},
			},
			Will: &Will{Topic: "w", Payload: []byte("x"), QoS: 1, Props: &Properties{
				Present:       set(PropPayloadFormatIndicator, PropMessageExpiryInterval, PropWillDelayInterval),
				PayloadFormat: 1, MessageExpiry: 5, WillDelay: 7,
			}}}},
}

func TestConnectGolden(t *testing.T) { testGolden(t, goldenConnect) }

func TestConnectMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"unknown protocol level [MQTT-3.1.2-2]", V5, "100D 0004 4D515454 06 02 0000 00 0000", UnsupportedProtocolVersion},
		{"unknown protocol name [MQTT-3.1.2-1]", V5, "100C 0004 4D515455 04 02 0000 0000", UnsupportedProtocolVersion},
		{"name of 3.1 with the level of 3.1.1", V311, "100E 0006 4D5149736470 04 02 0000 0000", UnsupportedProtocolVersion},
		{"bridge bit in the level", V311, "100C 0004 4D515454 84 02 0000 0000", UnsupportedProtocolVersion},
		{"reserved flag [MQTT-3.1.2-3]", V311, "100C 0004 4D515454 04 03 0000 0000", MalformedPacket},
		{"will QoS without will [MQTT-3.1.2-11]", V311, "100C 0004 4D515454 04 0A 0000 0000", MalformedPacket},
		{"will retain without will [MQTT-3.1.2-13]", V311, "100C 0004 4D515454 04 22 0000 0000", MalformedPacket},
		{"will QoS 3 [MQTT-3.1.2-12]", V311, "1012 0004 4D515454 04 1E 0000 0000 0001 77 0001 78", MalformedPacket},
		{"password without user name, 3.1.1 [MQTT-3.1.2-22]", V311, "100F 0004 4D515454 04 42 0000 0000 0001 70", MalformedPacket},
		{"user name missing [MQTT-3.1.2-17]", V311, "100C 0004 4D515454 04 82 0000 0000", MalformedPacket},
		{"password missing [MQTT-3.1.2-19]", V5, "100D 0004 4D515454 05 42 0000 00 0000", MalformedPacket},
		{"will missing [MQTT-3.1.2-9]", V5, "100D 0004 4D515454 05 06 0000 00 0000", MalformedPacket},
		{"will topic with a wildcard", V311, "1011 0004 4D515454 04 06 0000 0000 0001 23 0000", TopicNameInvalid},
		{"will topic ill-formed [MQTT-3.1.3-11]", V311, "1011 0004 4D515454 04 06 0000 0000 0001 FF 0000", MalformedPacket},
		{"client id ill-formed [MQTT-3.1.3-4]", V311, "100D 0004 4D515454 04 02 0000 0001 80", MalformedPacket},
		{"user name with U+0000 [MQTT-3.1.3-12]", V311, "100F 0004 4D515454 04 82 0000 0000 0001 00", MalformedPacket},
		{"bytes after the end", V311, "100D 0004 4D515454 04 02 0000 0000 00", MalformedPacket},
		{"Authentication Data without method", V5, "1011 0004 4D515454 05 02 0000 04 16 0001 FF 0000", ProtocolError},
		{"Will Delay outside the will", V5, "1012 0004 4D515454 05 02 0000 05 1800000001 0000", MalformedPacket},
		{"empty", V5, "1000", MalformedPacket},
	})
}

func TestConnectEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"no version", 0, &Connect{}, UnsupportedProtocolVersion},
		{"unknown version", 0, &Connect{Version: 6}, UnsupportedProtocolVersion},
		{"client id ill-formed [MQTT-1.5.4-1]", V5, &Connect{Version: V5, ClientID: "\xC3\x28"}, MalformedPacket},
		{"client id too long", V311, &Connect{Version: V311, ClientID: long}, MalformedPacket},
		{"user name with U+0000 [MQTT-1.5.4-2]", V311, &Connect{Version: V311, HasUsername: true, Username: "\x00"}, MalformedPacket},
		{"password too long", V5, &Connect{Version: V5, HasPassword: true, Password: []byte(long)}, MalformedPacket},
		{"password without user name, 3.1.1 [MQTT-3.1.2-22]", V311, &Connect{Version: V311, HasPassword: true}, MalformedPacket},
		{"will QoS 3 [MQTT-3.1.2-12]", V5, &Connect{Version: V5, Will: &Will{Topic: "t", QoS: 3}}, MalformedPacket},
		{"will topic with a wildcard", V5, &Connect{Version: V5, Will: &Will{Topic: "t/#"}}, TopicNameInvalid},
		{"will payload too long", V5, &Connect{Version: V5, Will: &Will{Topic: "t", Payload: []byte(long)}}, MalformedPacket},
		{"will property outside a will", V5, &Connect{Version: V5, Props: &Properties{Present: set(PropWillDelayInterval)}}, MalformedPacket},
	})
	if _, err := AppendConnect(nil, V311, &Connect{Version: V5}); err == nil {
		t.Error("v and p.Version differ, no error")
	}
}

func TestConnectOwnsItsMemory(t *testing.T) {
	for _, g := range goldenConnect {
		wire := unhex(t, g.wire)
		got, err := decodePacket(g.version, wire)
		if err != nil {
			t.Fatal(err)
		}
		clear(wire)
		if !samePacket(g.packet, got) {
			t.Errorf("%s: changed with the frame", g.wire)
		}
	}
}
