package codec

import (
	"slices"
	"testing"
)

var goldenSuback = slices.Concat(
	forVersions([]golden{
		{wire: "9003 0001 00", packet: &Suback{PacketID: 1, Codes: []ReasonCode{GrantedQoS0}}},
		{wire: "9006 0102 00010280", packet: &Suback{PacketID: 0x0102, Codes: []ReasonCode{GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError}}},
	}, V31, V311),
	[]golden{
		{version: V5, wire: "9006 0001 00 00 87 02", packet: &Suback{PacketID: 1, Codes: []ReasonCode{GrantedQoS0, NotAuthorized, GrantedQoS2}}},
		{version: V5, wire: "900F 0001 0B 1F 0001 72 26 0001 6B 0001 76 A2", packet: &Suback{PacketID: 1, Codes: []ReasonCode{WildcardSubscriptionsNotSupported},
			Props: &Properties{Present: set(PropReasonString), ReasonString: "r", User: []UserProperty{{"k", "v"}}}}},
	})

func TestSubackGolden(t *testing.T) { testGolden(t, goldenSuback) }

func TestSubackMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags", V5, "9204 0001 00 00", MalformedPacket},
		{"packet id 0", V5, "9004 0000 00 00", ProtocolError},
		{"no code", V5, "9003 0001 00", ProtocolError},
		{"no code", V311, "9002 0001", ProtocolError},
		{"code not in its table [MQTT-3.9.3-2]", V5, "9004 0001 00 03", ProtocolError},
		{"code of UNSUBACK", V5, "9004 0001 00 11", ProtocolError},
		{"QoS 3 in 3.1.1 [MQTT-3.9.3-2]", V311, "9003 0001 03", ProtocolError},
		{"no refusal in 3.1.1 [MQTT-3.9.3-2]", V311, "9003 0001 7F", ProtocolError},
		{"no refusal in 3.1", V31, "9004 0001 00 11", ProtocolError},
		{"second code not in its table", V5, "9005 0001 00 00 FF", ProtocolError},
		{"property length missing", V5, "9002 0001", MalformedPacket},
		{"property of another packet", V5, "9006 0001 02 0B01 00", MalformedPacket},
		{"cut off", V5, "9001 00", MalformedPacket},
	})
}

// Brokers that speak several versions refuse a 3.x SUBSCRIBE by codes of 5.0,
// and ones of their own.
func TestSubackOf3RefusesByAnyErrorCode(t *testing.T) {
	for _, v := range []Version{V31, V311} {
		for code := 0x80; code <= 0xFF; code++ {
			var p Suback
			if err := p.Decode(v, []byte{0, 1, 1, byte(code)}); err != nil {
				t.Fatalf("%s, %02x: %v", v, code, err)
			}
			if want := []ReasonCode{1, ReasonCode(code)}; !slices.Equal(p.Codes, want) || !p.Codes[1].IsError() {
				t.Errorf("%s: %v, want %v", v, p.Codes, want)
			}
		}
	}
}

func TestSubackEncodeRefuses(t *testing.T) {
	testRefused(t, []refusedCase{
		{"packet id 0", V5, &Suback{Codes: []ReasonCode{0}}, ProtocolError},
		{"no code", V5, &Suback{PacketID: 1}, ProtocolError},
		{"code not in its table", V5, &Suback{PacketID: 1, Codes: []ReasonCode{3}}, ProtocolError},
		{"code of 5.0 in 3.1.1", V311, &Suback{PacketID: 1, Codes: []ReasonCode{NotAuthorized}}, ProtocolError},
	})
}
