package codec

import (
	"slices"
	"testing"
)

var goldenSubscribe = slices.Concat(
	forVersions([]golden{
		{wire: "8206 0001 0001 23 00", packet: &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "#"}}}},
		{wire: "820C 0102 0003 612F2B 01 0001 62 02", packet: &Subscribe{PacketID: 0x0102,
			Subscriptions: []Subscription{{Filter: "a/+", QoS: 1}, {Filter: "b", QoS: 2}}}},
	}, V31, V311),
	[]golden{
		{version: V31, wire: "8A06 0001 0001 23 00", packet: &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "#"}}}, oneWay: true},
		{version: V5, wire: "8207 0001 00 0001 23 00", packet: &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "#"}}}},
		{version: V5, wire: "821E 0001 0A 0B8001 26 0001 6B 0001 76" + "0001 61 2E" + "000A 2473686172652F672F74 19",
			packet: &Subscribe{PacketID: 1, Props: &Properties{SubscriptionIDs: []uint32{128}, User: []UserProperty{{"k", "v"}}},
				Subscriptions: []Subscription{{Filter: "a", QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
					{Filter: "$share/g/t", QoS: 1, RetainAsPublished: true, RetainHandling: 1}}}},
	})

func TestSubscribeGolden(t *testing.T) { testGolden(t, goldenSubscribe) }

func TestSubscribeMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags [MQTT-3.8.1-1]", V5, "8007 0001 00 0001 23 00", MalformedPacket},
		{"DUP in 3.1.1", V311, "8A06 0001 0001 23 00", MalformedPacket},
		{"packet id 0 [MQTT-2.2.1-3]", V5, "8207 0000 00 0001 23 00", ProtocolError},
		{"no filter [MQTT-3.8.3-2]", V5, "8203 0001 00", ProtocolError},
		{"no filter", V311, "8202 0001", ProtocolError},
		{"empty filter [MQTT-4.7.3-1]", V5, "8206 0001 00 0000 00", ProtocolError},
		{"options missing", V5, "8206 0001 00 0001 23", MalformedPacket},
		{"QoS 3 [MQTT-3.8.3-5]", V5, "8207 0001 00 0001 23 03", ProtocolError},
		{"QoS 3", V311, "8206 0001 0001 23 03", ProtocolError},
		{"Retain Handling 3", V5, "8207 0001 00 0001 23 30", ProtocolError},
		{"reserved bits [MQTT-3.8.3-5]", V5, "8207 0001 00 0001 23 40", MalformedPacket},
		{"options of 5.0 in 3.1.1", V311, "8206 0001 0001 23 04", MalformedPacket},
		{"No Local on a shared subscription [MQTT-3.8.3-4]", V5, "8210 0001 00 000A 2473686172652F672F74 04", ProtocolError},
		{"wildcard [MQTT-4.7.1-1]", V5, "8208 0001 00 0002 6123 00", TopicFilterInvalid},
		{"ill-formed filter [MQTT-3.8.3-1]", V5, "8207 0001 00 0001 FF 00", MalformedPacket},
		{"Subscription Identifier twice", V5, "820B 0001 04 0B010B02 0001 23 00", ProtocolError},
		{"Subscription Identifier 0", V5, "8209 0001 02 0B00 0001 23 00", ProtocolError},
	})
}

func TestSubscribeEncodeRefuses(t *testing.T) {
	one := func(s Subscription) *Subscribe { return &Subscribe{PacketID: 1, Subscriptions: []Subscription{s}} }
	testRefused(t, []refusedCase{
		{"packet id 0", V5, &Subscribe{Subscriptions: []Subscription{{Filter: "a"}}}, ProtocolError},
		{"no filter [MQTT-3.8.3-2]", V311, &Subscribe{PacketID: 1}, ProtocolError},
		{"empty filter", V5, one(Subscription{}), ProtocolError},
		{"bad filter [MQTT-4.7.1-1]", V5, one(Subscription{Filter: "a/#/b"}), TopicFilterInvalid},
		{"ill-formed filter [MQTT-3.8.3-1]", V311, one(Subscription{Filter: "\xC3\x28"}), MalformedPacket},
		{"filter too long", V311, one(Subscription{Filter: long}), MalformedPacket},
		{"QoS 3 [MQTT-3.8.3-5]", V311, one(Subscription{Filter: "a", QoS: 3}), ProtocolError},
		{"Retain Handling 3", V5, one(Subscription{Filter: "a", RetainHandling: 3}), ProtocolError},
		{"No Local on a shared subscription [MQTT-3.8.3-4]", V5, one(Subscription{Filter: "$share/g/t", NoLocal: true}), ProtocolError},
		{"two identifiers", V5, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a"}},
			Props: &Properties{SubscriptionIDs: []uint32{1, 2}}}, ProtocolError},
	})
}

// All options of 5.0 in all combinations leave the reserved bits 0 [MQTT-3.8.3-5].
func TestSubscribeOptions(t *testing.T) {
	for o := range byte(0x40) {
		want := Subscription{Filter: "a", QoS: o & 3, NoLocal: o&4 != 0, RetainAsPublished: o&8 != 0, RetainHandling: o >> 4 & 3}
		b, err := AppendSubscribe(nil, V5, &Subscribe{PacketID: 1, Subscriptions: []Subscription{want}})
		if want.QoS == 3 || want.RetainHandling == 3 {
			wantCode(t, err, ProtocolError)
			continue
		}
		if err != nil || b[len(b)-1] != o {
			t.Errorf("options %02x: % x, %v", o, b, err)
		}
		var got Subscribe
		if err := got.Decode(V5, b[2:]); err != nil || got.Subscriptions[0] != want {
			t.Errorf("options %02x: %+v, %v", o, got, err)
		}
	}
}
