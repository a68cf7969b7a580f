package codec

import "testing"

var goldenAuth = []golden{
	{version: V5, wire: "F000", packet: &Auth{}},
	{version: V5, wire: "F006 18 04 15 0001 6D", packet: &Auth{Code: ContinueAuthentication,
		Props: &Properties{Present: set(PropAuthenticationMethod), AuthMethod: "m"}}},
	{version: V5, wire: "F015 19 13 15 0001 6D 16 0001 FF 1F 0001 72 26 0001 6B 0001 76", packet: &Auth{Code: ReAuthenticate,
		Props: &Properties{Present: set(PropAuthenticationMethod, PropAuthenticationData, PropReasonString), AuthMethod: "m",
			AuthData: []byte{0xFF}, ReasonString: "r", User: []UserProperty{{"k", "v"}}}}},
}

func TestAuthGolden(t *testing.T) { testGolden(t, goldenAuth) }

func TestAuthMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"AUTH in 3.1.1", V311, "F000", MalformedPacket},
		{"AUTH in 3.1", V31, "F000", MalformedPacket},
		{"flags [MQTT-3.15.1-1]", V5, "F100", MalformedPacket},
		{"code not in its table [MQTT-3.15.2-1]", V5, "F006 01 04 15 0001 6D", ProtocolError},
		{"property length missing", V5, "F001 18", MalformedPacket},
		{"no method", V5, "F002 18 00", ProtocolError},
		{"no method", V5, "F006 18 04 1F 0001 72", ProtocolError},
		{"Authentication Data without method", V5, "F006 18 04 16 0001 FF", ProtocolError},
		{"property of another packet", V5, "F008 18 06 15 0001 6D 1700", MalformedPacket},
	})
}

func TestAuthEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"3.1.1 has no AUTH", V311, &Auth{}, MalformedPacket},
		{"no method", V5, &Auth{Code: ContinueAuthentication}, ProtocolError},
		{"code not in its table", V5, &Auth{Code: NotAuthorized, Props: &Properties{Present: set(PropAuthenticationMethod)}}, ProtocolError},
	})
	var p Auth
	wantCode(t, p.Decode(V311, nil), MalformedPacket)
}
