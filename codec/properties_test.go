package codec

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

type propertyCase struct {
	id    PropertyID
	wire  string
	where string
}

// validProperty is each property on the wire with a value in range, and in
// which packets the standard's table 2-4 allows it ("Will" for the will).
var validProperty = []propertyCase{
	{PropPayloadFormatIndicator, "01 01", "PUBLISH Will"},
	{PropMessageExpiryInterval, "02 00000001", "PUBLISH Will"},
	{PropContentType, "03 0001 63", "PUBLISH Will"},
	{PropResponseTopic, "08 0001 72", "PUBLISH Will"},
	{PropCorrelationData, "09 0001 FF", "PUBLISH Will"},
	{PropSubscriptionIdentifier, "0B 8001", "PUBLISH SUBSCRIBE"},
	{PropSessionExpiryInterval, "11 FFFFFFFF", "CONNECT CONNACK DISCONNECT"},
	{PropAssignedClientIdentifier, "12 0001 61", "CONNACK"},
	{PropServerKeepAlive, "13 0000", "CONNACK"},
	{PropAuthenticationMethod, "15 0001 6D", "CONNECT CONNACK AUTH"},
	{PropAuthenticationData, "16 0001 00", "CONNECT CONNACK AUTH"},
	{PropRequestProblemInformation, "17 01", "CONNECT"},
	{PropWillDelayInterval, "18 00000001", "Will"},
	{PropRequestResponseInformation, "19 01", "CONNECT"},
	{PropResponseInformation, "1A 0001 69", "CONNACK"},
	{PropServerReference, "1C 0001 73", "CONNACK DISCONNECT"},
	{PropReasonString, "1F 0001 72", "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
	{PropReceiveMaximum, "21 0001", "CONNECT CONNACK"},
	{PropTopicAliasMaximum, "22 FFFF", "CONNECT CONNACK"},
	{PropTopicAlias, "23 0001", "PUBLISH"},
	{PropMaximumQoS, "24 01", "CONNACK"},
	{PropRetainAvailable, "25 01", "CONNACK"},
	{PropUserProperty, "26 0001 6B 0001 76", "CONNECT CONNACK PUBLISH Will PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK DISCONNECT AUTH"},
	{PropMaximumPacketSize, "27 00000001", "CONNECT CONNACK"},
	{PropWildcardSubscriptionAvailable, "28 01", "CONNACK"},
	{PropSubscriptionIdentifierAvailable, "29 01", "CONNACK"},
	{PropSharedSubscriptionAvailable, "2A 01", "CONNACK"},
}

// propertyScopes are the places that hold properties.
func propertyScopes(f func(name string, typ Type, will bool)) {
	for typ := CONNECT; typ <= AUTH; typ++ {
		if typ != PINGREQ && typ != PINGRESP {
			f(typ.String(), typ, false)
		}
	}
	f("Will", CONNECT, true)
}

// authFor is the Authentication Method that makes the property id, or the packet, complete.
func authFor(id PropertyID, typ Type) string {
	if id != PropAuthenticationMethod && (id == PropAuthenticationData || typ == AUTH) {
		return "15 0001 6D"
	}
	return ""
}

// TestPropertyMatrix tries each property in each packet, in the bytes and in the struct.
func TestPropertyMatrix(t *testing.T) {
	if len(validProperty) != 27 {
		t.Fatalf("%d properties", len(validProperty))
	}
	propertyScopes(func(name string, typ Type, will bool) {
		for _, c := range validProperty {
			allowed := slices.Contains(strings.Fields(c.where), name)
			wire := authFor(c.id, typ) + c.wire
			if will {
				wire = c.wire
			}
			raw := unhex(t, wire)
			err := CheckProperties(typ, will, raw)
			var p Properties
			RawProperties(raw).Decode(&p)
			checked := p.Check(typ, will)
			if !allowed {
				wantCode(t, err, MalformedPacket) // section 2.2.2.2
				wantCode(t, checked, MalformedPacket)
				continue
			}
			if err != nil || checked != nil {
				t.Errorf("%s in %s: %v, %v", c.id, name, err, checked)
			}
			twice := CheckProperties(typ, will, append(raw, unhex(t, c.wire)...))
			if c.id == PropUserProperty || c.id == PropSubscriptionIdentifier && typ == PUBLISH {
				if twice != nil {
					t.Errorf("%s twice in %s: %v", c.id, name, twice)
				}
				continue
			}
			wantCode(t, twice, ProtocolError)
		}
	})
}

// TestPropertyRoundTrip takes each property through bytes, struct and bytes.
func TestPropertyRoundTrip(t *testing.T) {
	for _, c := range validProperty {
		raw := unhex(t, c.wire)
		var p Properties
		RawProperties(raw).Decode(&p)
		if !p.Has(c.id) || PropertiesSize(&p) != len(raw) {
			t.Errorf("%s: %+v, size %d", c.id, p, PropertiesSize(&p))
		}
		if got := AppendProperties(nil, &p); string(got) != string(append([]byte{byte(len(raw))}, raw...)) {
			t.Errorf("%s: % x, want % x", c.id, got, raw)
		}
		// Absent and zero differ: without its mark the value is not on the wire.
		p.Present, p.User, p.SubscriptionIDs = 0, nil, nil
		if p.Has(c.id) || PropertiesSize(&p) != 0 {
			t.Errorf("%s: there without its mark", c.id)
		}
	}
}

// TestPropertyCutOff cuts each property at each byte.
func TestPropertyCutOff(t *testing.T) {
	for _, c := range validProperty {
		propertyScopes(func(name string, typ Type, will bool) {
			if !slices.Contains(strings.Fields(c.where), name) {
				return
			}
			raw := unhex(t, c.wire)
			for n := 1; n < len(raw); n++ {
				wantCode(t, CheckProperties(typ, will, raw[:n:n]), MalformedPacket)
				RawProperties(raw[:n:n]).Decode(new(Properties)) // stops, does not panic
			}
		})
	}
}

// TestUnknownProperties tries all identifiers that the standard does not define, in every packet.
func TestUnknownProperties(t *testing.T) {
	propertyScopes(func(_ string, typ Type, will bool) {
		for id := range 256 {
			if slices.ContainsFunc(validProperty, func(c propertyCase) bool { return c.id == PropertyID(id) }) {
				continue
			}
			wantCode(t, CheckProperties(typ, will, []byte{byte(id), 1, 0, 0}), MalformedPacket)
		}
	})
	wantCode(t, (&Properties{Present: set(0x04)}).Check(CONNACK, false), MalformedPacket)
	if PropertiesSize(&Properties{Present: set(0x04, 0x3F)}) != 0 {
		t.Error("an unknown property takes room")
	}
}

// TestPropertyRanges holds numbers to the ranges of their sections.
func TestPropertyRanges(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		will bool
		wire string
		code ReasonCode // 0 = accepted
	}{
		{PUBLISH, false, "0100", 0}, {PUBLISH, false, "0102", ProtocolError}, {CONNECT, true, "01FF", ProtocolError},
		{CONNECT, false, "1700", 0}, {CONNECT, false, "1702", ProtocolError},
		{CONNECT, false, "1900", 0}, {CONNECT, false, "1902", ProtocolError},
		{CONNACK, false, "2400", 0}, {CONNACK, false, "2402", ProtocolError},
		{CONNACK, false, "2500", 0}, {CONNACK, false, "2502", ProtocolError},
		{CONNACK, false, "2800", 0}, {CONNACK, false, "2802", ProtocolError},
		{CONNACK, false, "2900", 0}, {CONNACK, false, "2902", ProtocolError},
		{CONNACK, false, "2A00", 0}, {CONNACK, false, "2AFF", ProtocolError},
		{CONNACK, false, "210000", ProtocolError}, {CONNECT, false, "21FFFF", 0},
		{CONNACK, false, "2700000000", ProtocolError}, {CONNECT, false, "27FFFFFFFF", 0},
		{CONNACK, false, "220000", 0}, {CONNACK, false, "1300FF", 0}, {CONNACK, false, "1100000000", 0},
		{PUBLISH, false, "230000", TopicAliasInvalid}, {PUBLISH, false, "23FFFF", 0},
		{PUBLISH, false, "0200000000", 0},
		{PUBLISH, false, "0B00", ProtocolError}, {PUBLISH, false, "0BFFFFFF7F", 0}, {SUBSCRIBE, false, "0B00", ProtocolError},
		{PUBLISH, false, "0B8000", MalformedPacket}, {PUBLISH, false, "0B8080808001", MalformedPacket},
		{PUBLISH, false, "030000", 0}, {PUBLISH, false, "080000", ProtocolError}, {CONNECT, true, "0800012B", ProtocolError},
		{PUBLISH, false, "2600000000", 0},
	} {
		err := CheckProperties(c.typ, c.will, unhex(t, c.wire))
		if c.code == 0 {
			if err != nil {
				t.Errorf("%s: %v", c.wire, err)
			}
			continue
		}
		wantCode(t, err, c.code)
	}
}

// TestPropertyTexts puts ill-formed text into every string property [MQTT-1.5.4-1], [MQTT-1.5.4-2].
func TestPropertyTexts(t *testing.T) {
	for _, c := range validProperty {
		if ruleOf(c.id).wire != wireString {
			continue
		}
		for _, bad := range []string{"0002 C328", "0003 EDA080", "0001 00", "0001 FF"} {
			propertyScopes(func(name string, typ Type, will bool) {
				if slices.Contains(strings.Fields(c.where), name) {
					wantCode(t, CheckProperties(typ, will, unhex(t, fmt.Sprintf("%02x", byte(c.id))+bad)), MalformedPacket)
				}
			})
		}
	}
}

func TestRawProperties(t *testing.T) {
	r := RawProperties(unhex(t, "0B07 03 0002 7478 26 0001 61 0000 0B8001 26 0001 61 0001 62 0200000102"))
	if v, ok := r.Lookup(PropContentType); !ok || string(v) != "tx" {
		t.Errorf("Content Type %q, %v", v, ok)
	}
	if v, ok := r.Lookup(PropResponseTopic); ok || v != nil {
		t.Errorf("Response Topic %q, %v", v, ok)
	}
	for id, want := range map[PropertyID]uint32{PropMessageExpiryInterval: 0x102, PropSubscriptionIdentifier: 7} {
		if v, ok := r.Number(id); !ok || v != want {
			t.Errorf("%s %d, %v", id, v, ok)
		}
	}
	for _, id := range []PropertyID{PropContentType, PropUserProperty, PropTopicAlias, 0xFF} {
		if v, ok := r.Number(id); ok || v != 0 {
			t.Errorf("%s as a number: %d", id, v)
		}
	}
	var pairs []UserProperty
	for k, v := range r.UserProperties() {
		pairs = append(pairs, UserProperty{string(k), string(v)})
	}
	want := []UserProperty{{"a", ""}, {"a", "b"}}
	if !slices.Equal(pairs, want) {
		t.Errorf("user properties %v", pairs)
	}
	for range r.UserProperties() {
		break
	}
	for range r.SubscriptionIDs() {
		break
	}

	var p Properties
	r.Decode(&p)
	before := p
	before.User = slices.Clone(p.User)
	clear(r)
	if !reflect.DeepEqual(p, before) || !slices.Equal(p.User, want) || p.ContentType != "tx" {
		t.Errorf("%+v changed with the frame", p)
	}
	if len(p.SubscriptionIDs) != 2 {
		t.Errorf("%v", p.SubscriptionIDs)
	}
}

func TestNilProperties(t *testing.T) {
	var p *Properties
	if p.Has(PropUserProperty) || PropertiesSize(p) != 0 || string(AppendProperties(nil, p)) != "\x00" { // [MQTT-2.2.2-1]
		t.Error("nil is not empty")
	}
	if err := p.Check(CONNECT, false); err != nil {
		t.Error(err)
	}
	wantCode(t, p.Check(AUTH, false), ProtocolError)
}

func TestPropertySet(t *testing.T) {
	s := set(PropContentType, PropSharedSubscriptionAvailable)
	if !s.Has(PropContentType) || s.Has(PropTopicAlias) || s.Without(PropContentType).Has(PropContentType) || s.Has(0xFF) {
		t.Errorf("%b", s)
	}
}

func TestPropertyNames(t *testing.T) {
	for _, c := range validProperty {
		if c.id.String() == "" {
			t.Errorf("%02x has no name", byte(c.id))
		}
	}
	if PropertyID(4).String() != "property 0x04" || PropertyID(0xFF).String() != "property 0xFF" {
		t.Error("a name for no property")
	}
}

// A Subscription Identifier that does not fit an int of 32 bits is out of range there too.
func TestSubscriptionIdentifierOutOfRange(t *testing.T) {
	for _, id := range []uint32{0, maxVarint + 1, 1 << 31, 1<<31 + 5, 1<<32 - 1} {
		p := &Properties{SubscriptionIDs: []uint32{id}}
		if err := p.Check(SUBSCRIBE, false); err == nil {
			t.Errorf("%d passes", id)
		}
		if b, err := AppendSubscribe(nil, V5, &Subscribe{PacketID: 1, Props: p, Subscriptions: []Subscription{{Filter: "t"}}}); err == nil {
			t.Errorf("%d is written: % X", id, b)
		}
	}
}
