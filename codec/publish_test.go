package codec

import (
	"bytes"
	"slices"
	"testing"
)

var goldenPublish = slices.Concat(
	forVersions([]golden{
		{wire: "3008 0003 612F62 616263", packet: &Publish{Topic: "a/b", Payload: []byte("abc")}},
		{wire: "3105 0003 612F62", packet: &Publish{Retain: true, Topic: "a/b"}},
		{wire: "3A07 0003 612F62 000A", packet: &Publish{Dup: true, QoS: 1, PacketID: 10, Topic: "a/b"}},
		{wire: "3508 0003 612F62 FFFF 00", packet: &Publish{QoS: 2, Retain: true, PacketID: 65535, Topic: "a/b", Payload: []byte{0}}},
		// U+FEFF is a character like others [MQTT-1.5.4-3]
		{wire: "3005 0003 EFBBBF", packet: &Publish{Topic: "\uFEFF"}},
	}, V31, V311),
	[]golden{
		{version: V5, wire: "3009 0003 612F62 00 616263", packet: &Publish{Topic: "a/b", Payload: []byte("abc")}},
		{version: V5, wire: "3D08 0003 612F62 000A 00", packet: &Publish{Dup: true, QoS: 2, Retain: true, PacketID: 10, Topic: "a/b"}},
		{version: V5, wire: "3006 0000 03 230001", packet: &Publish{Props: &Properties{Present: set(PropTopicAlias), TopicAlias: 1}}},
		{version: V5, wire: "3234 0001 74 0102" +
			"2B 0101 020000000A 03 0001 63 08 0001 72 09 0002 00FF 0B01 0BFFFFFF7F 230007 26 0001 61 0000 26 0001 61 0001 62" + "FF 00 01",
			packet: &Publish{QoS: 1, PacketID: 0x0102, Topic: "t", Payload: []byte{0xFF, 0, 1}, Props: &Properties{
				Present: set(PropPayloadFormatIndicator, PropMessageExpiryInterval, PropContentType, PropResponseTopic,
					PropCorrelationData, PropTopicAlias),
				PayloadFormat: 1, MessageExpiry: 10, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0, 0xFF},
				SubscriptionIDs: []uint32{1, maxVarint}, TopicAlias: 7, User: []UserProperty{{"a", ""}, {"a", "b"}},
			}}},
	})

func TestPublishGolden(t *testing.T) { testGolden(t, goldenPublish) }

func TestPublishMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"QoS 3 [MQTT-3.3.1-4]", V5, "3605 0001 74 0001 00", MalformedPacket},
		{"QoS 3 [MQTT-3.3.1-4]", V311, "3605 0001 74 0001", MalformedPacket},
		{"DUP with QoS 0 [MQTT-3.3.1-2]", V5, "3804 0001 74 00", MalformedPacket},
		{"field runs past the packet", V5, "3004 00FF 7070", MalformedPacket},
		{"field runs past the packet", V311, "3004 00FF 7070", MalformedPacket},
		{"cut off", V311, "3001 00", MalformedPacket},
		{"empty", V311, "3000", MalformedPacket},
		{"packet id cut off", V311, "3204 0001 74 00", MalformedPacket},
		{"packet id 0 [MQTT-2.2.1-4]", V5, "3206 0001 74 0000 00", ProtocolError},
		{"packet id 0", V311, "3205 0001 74 0000", ProtocolError},
		{"property length missing", V5, "3003 0001 74", MalformedPacket},
		{"property length > packet", V5, "3004 0001 74 05", MalformedPacket},
		{"property length not minimal [MQTT-1.5.5-1]", V5, "3005 0001 74 8000", MalformedPacket},
		{"property length > 4 bytes", V5, "3008 0001 74 80808080 01", MalformedPacket},
		{"empty topic without alias", V5, "3004 0000 00 6D", ProtocolError},
		{"empty topic [MQTT-4.7.3-1]", V311, "3003 0000 6D", ProtocolError},
		{"topic with + [MQTT-3.3.2-2]", V5, "3006 0003 612F2B 00", MalformedPacket},
		{"topic with #", V311, "3003 0001 23", MalformedPacket},
		{"surrogate in the topic [MQTT-1.5.4-1]", V5, "3006 0003 EDA080 00", MalformedPacket},
		{"ill-formed topic", V311, "3004 0002 C328", MalformedPacket},
		{"U+0000 in the topic [MQTT-1.5.4-2]", V5, "3004 0001 00 00", MalformedPacket},
		{"alias 0 [MQTT-3.3.2-8]", V5, "3007 0001 74 03 230000", TopicAliasInvalid},
		{"Subscription Identifier 0", V5, "3006 0001 74 02 0B00", ProtocolError},
		{"Subscription Identifier > 4 bytes", V5, "300A 0001 74 06 0B8080808001", MalformedPacket},
		{"Subscription Identifier not minimal", V5, "3007 0001 74 03 0B8100", MalformedPacket},
		{"Payload Format 2", V5, "3006 0001 74 02 0102", ProtocolError},
		{"Response Topic with a wildcard [MQTT-3.3.2-14]", V5, "3008 0001 74 04 08 0001 23", ProtocolError},
		{"Response Topic empty [MQTT-4.7.3-1]", V5, "3007 0001 74 03 08 0000", ProtocolError},
		{"Response Topic ill-formed [MQTT-3.3.2-13]", V5, "3008 0001 74 04 08 0001 FF", MalformedPacket},
		{"Content Type ill-formed [MQTT-3.3.2-19]", V5, "3008 0001 74 04 03 0001 FF", MalformedPacket},
		{"name of a User Property ill-formed [MQTT-1.5.7-1]", V5, "300B 0001 74 07 26 0001 FF 0001 76", MalformedPacket},
		{"value of a User Property ill-formed [MQTT-1.5.7-1]", V5, "300D 0001 74 09 26 0001 6B 0003 EDA080", MalformedPacket},
		{"value of a User Property missing", V5, "3008 0001 74 04 26 0001 6B", MalformedPacket},
		{"property of another packet", V5, "3009 0001 74 05 1100000000", MalformedPacket},
	})
}

// Section 3.3.2.3.2 says that a receiver may check the payload; the codec leaves it alone.
func TestPublishPayloadFormatIsNotEnforced(t *testing.T) {
	p, err := decodePacket(V5, unhex(t, "3007 0001 74 02 0101 FF"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.(*Publish); got.Props.PayloadFormat != 1 || !bytes.Equal(got.Payload, []byte{0xFF}) {
		t.Errorf("%+v", got)
	}
}

func TestPublishView(t *testing.T) {
	body := unhex(t, "0001 74 0102 0B 0B07 0B8001 230007 26 0000 0000 78")
	body[5] = byte(len(body) - 7)
	var p PublishView
	if err := p.Decode(V5, 0b1011, body); err != nil {
		t.Fatal(err)
	}
	if !p.Dup || p.QoS != 1 || !p.Retain || p.PacketID != 0x0102 || p.TopicAlias != 7 || p.SubID != 7 || p.SubIDs != 2 {
		t.Errorf("%+v", p)
	}
	if ids := slices.Collect(p.Props.SubscriptionIDs()); !slices.Equal(ids, []uint32{7, 128}) {
		t.Errorf("subscription identifiers %v", ids)
	}
	if &p.Topic[0] != &body[2] || &p.Payload[0] != &body[len(body)-1] {
		t.Error("copied, not a view")
	}
	if cap(p.Topic) != 1 {
		t.Error("appending to the topic would write into the frame")
	}
	// A view that is used again keeps nothing of the packet before.
	if err := p.Decode(V5, 0, unhex(t, "0001 74 00")); err != nil || p.TopicAlias != 0 || p.SubIDs != 0 || p.PacketID != 0 || p.Props != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestPublishDecodeLayoutSkipsTheTopicOnly(t *testing.T) {
	var p PublishView
	if err := p.DecodeLayout(V311, 0, unhex(t, "0001 23")); err != nil || string(p.Topic) != "#" {
		t.Errorf("%q, %v", p.Topic, err)
	}
	wantCode(t, p.DecodeLayout(V311, 0, unhex(t, "0000")), ProtocolError)
	wantCode(t, p.DecodeLayout(V5, 0, unhex(t, "0001 74 03 230000")), TopicAliasInvalid)
}

// Flags that never pass a Framer are refused without one too.
func TestPublishDecodeChecksFlags(t *testing.T) {
	var p PublishView
	for _, flags := range []byte{0b0110, 0b0111, 0b1000, 0b1110} {
		wantCode(t, p.Decode(V311, flags, unhex(t, "0001 74 0001")), MalformedPacket)
	}
}

func TestPublishCheckRefuses(t *testing.T) {
	alias := &Properties{Present: set(PropTopicAlias), TopicAlias: 1}
	testRefused(t, []refusedCase{
		{"QoS 3 [MQTT-3.3.1-4]", V5, &Publish{Topic: "t", QoS: 3, PacketID: 1}, MalformedPacket},
		{"DUP with QoS 0 [MQTT-3.3.1-2]", V5, &Publish{Topic: "t", Dup: true}, MalformedPacket},
		{"packet id 0 [MQTT-2.2.1-3]", V311, &Publish{Topic: "t", QoS: 1}, ProtocolError},
		{"empty topic", V5, &Publish{}, ProtocolError},
		{"empty topic, alias in 3.x", V311, &Publish{Props: alias}, ProtocolError},
		{"wildcard [MQTT-3.3.2-2]", V5, &Publish{Topic: "a/+", Props: alias}, TopicNameInvalid},
		{"surrogate [MQTT-1.5.4-1]", V5, &Publish{Topic: "\xED\xA0\x80"}, MalformedPacket},
		{"topic too long [MQTT-4.7.3-3]", V311, &Publish{Topic: long}, MalformedPacket},
		{"response topic with a wildcard [MQTT-3.3.2-14]", V5, &Publish{Topic: "t",
			Props: &Properties{Present: set(PropResponseTopic), ResponseTopic: "+"}}, ProtocolError},
		{"content type too long", V5, &Publish{Topic: "t",
			Props: &Properties{Present: set(PropContentType), ContentType: long}}, MalformedPacket},
		{"user property ill-formed [MQTT-1.5.7-1]", V5, &Publish{Topic: "t",
			Props: &Properties{User: []UserProperty{{"k", "\xED\xA0\x80"}}}}, MalformedPacket},
		{"Subscription Identifier 0", V5, &Publish{Topic: "t", Props: &Properties{SubscriptionIDs: []uint32{0}}}, ProtocolError},
		{"Subscription Identifier above its range", V5, &Publish{Topic: "t",
			Props: &Properties{SubscriptionIDs: []uint32{maxVarint + 1}}}, ProtocolError},
		{"alias 0 [MQTT-3.3.2-8]", V5, &Publish{Topic: "t", Props: &Properties{Present: set(PropTopicAlias)}}, TopicAliasInvalid},
		{"packet too large", V311, &Publish{Topic: "t", Payload: make([]byte, maxVarint)}, PacketTooLarge},
	})
}

func TestPublishSize(t *testing.T) {
	for _, v := range versions {
		for _, n := range []int{0, 1, 120, 124, 125, 126, 127, 16_377, 16_380, 16_383, 2_097_151} {
			p := &Publish{QoS: 1, PacketID: 1, Topic: "t", Payload: make([]byte, n)}
			whole := AppendPublish(nil, v, p)
			if len(whole) != PublishSize(v, p) {
				t.Errorf("%s, payload of %d: PublishSize %d, encoded %d", v, n, PublishSize(v, p), len(whole))
			}
			head := AppendPublishHeader(nil, v, p)
			if !bytes.Equal(append(head, p.Payload...), whole) {
				t.Errorf("%s, payload of %d: header and payload are not the packet", v, n)
			}
		}
	}
}
