package codec

import (
	"strings"
	"testing"
)

// TestReasonCodeTables compares ValidFor to section 2.4, written out by packet.
func TestReasonCodeTables(t *testing.T) {
	want := map[Type][]byte{
		CONNACK:    {0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
		PUBACK:     {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
		PUBREC:     {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
		PUBREL:     {0, 0x92},
		PUBCOMP:    {0, 0x92},
		SUBACK:     {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
		UNSUBACK:   {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
		DISCONNECT: {0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
		AUTH:       {0, 0x18, 0x19},
	}
	want3 := map[Type][]byte{CONNACK: {0, 1, 2, 3, 4, 5}, SUBACK: {0, 1, 2, 0x80},
		PUBACK: {0}, PUBREC: {0}, PUBREL: {0}, PUBCOMP: {0}, UNSUBACK: {0}, DISCONNECT: {0}}
	for typ := CONNECT; typ <= AUTH; typ++ {
		for c := range 256 {
			if got := ReasonCode(c).ValidFor(typ, V5); got != strings.Contains(string(want[typ]), string([]byte{byte(c)})) {
				t.Errorf("%02x in %s: %v", c, typ, got)
			}
			for _, v := range []Version{V31, V311} {
				if got := ReasonCode(c).ValidFor(typ, v); got != strings.Contains(string(want3[typ]), string([]byte{byte(c)})) {
					t.Errorf("%02x in %s of %s: %v", c, typ, v, got)
				}
			}
		}
	}
}

func TestReasonCodeNames(t *testing.T) {
	for c, want := range map[ReasonCode]string{
		Success: "Success", GrantedQoS1: "Granted QoS 1", ReAuthenticate: "Re-authenticate", UnspecifiedError: "Unspecified error",
		SessionTakenOver: "Session taken over", TopicAliasInvalid: "Topic Alias invalid", PayloadFormatInvalid: "Payload format invalid",
		ConnectionRateExceeded: "Connection rate exceeded", WildcardSubscriptionsNotSupported: "Wildcard Subscriptions not supported",
		0x03: "reason code 0x03", 0xA3: "reason code 0xA3", 0xFF: "reason code 0xFF",
	} {
		if c.String() != want {
			t.Errorf("%02x: %q, want %q", byte(c), c, want)
		}
	}
	// Every code of a table has a name and every name is used.
	for c := range 256 {
		valid := false
		for typ := CONNECT; typ <= AUTH; typ++ {
			valid = valid || ReasonCode(c).ValidFor(typ, V5)
		}
		if named := ReasonCode(c).name() != ""; named != valid {
			t.Errorf("%02x: named %v, in a table %v", c, named, valid)
		}
		if ReasonCode(c).IsError() != (c >= 0x80) {
			t.Errorf("%02x: IsError", c)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for typ := CONNECT; typ <= AUTH; typ++ {
		if name := typ.String(); seen[name] || name != strings.ToUpper(name) {
			t.Errorf("type %d: %q", typ, name)
		}
		seen[typ.String()] = true
	}
	if Type(0).String() != "reserved packet type" || Type(16).String() != "reserved packet type" {
		t.Error("a name for no type")
	}
	for v, want := range map[Version]string{0: "unknown version", V31: "3.1", V311: "3.1.1", V5: "5.0", 6: "unknown version"} {
		if v.String() != want || v.Valid() != (v >= 3 && v <= 5) {
			t.Errorf("version %d: %q, %v", byte(v), v, v.Valid())
		}
	}
	for c := range byte(7) {
		if s := ConnectReturnCodeString(c); (s == "reserved return code") != (c > 5) || seen[s] {
			t.Errorf("return code %d: %q", c, s)
		} else {
			seen[s] = true
		}
	}
}
