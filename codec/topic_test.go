package codec

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckUTF8(t *testing.T) {
	for _, s := range []string{"", "a", "\x01\x1F\x7F", "ä世\U0001F600", "\uFEFF", "\uFFFF", "\U0010FFFF", "\uFFFD", long[:maxString]} {
		if err := CheckUTF8(s); err != nil {
			t.Errorf("%.20q: %v", s, err)
		}
	}
	for s, at := range map[string]int{
		"\x00": 0, "ab\x00": 2, // [MQTT-1.5.4-2]
		"a\xC3\x28": 1, "\xED\xA0\x80": 0, "ä\xED\xBF\xBF": 2, // [MQTT-1.5.4-1]
		"\xC0\x80": 0, "\xF4\x90\x80\x80": 0, "\xE4\xB8": 0, "\x80": 0,
		long: maxString,
	} {
		err := CheckUTF8(s)
		wantCode(t, err, MalformedPacket)
		if e, _ := errors.AsType[*Error](err); e.Offset != at {
			t.Errorf("%.20q: offset %d, want %d", s, e.Offset, at)
		}
	}
}

func TestCheckTopicName(t *testing.T) {
	for _, s := range []string{"a", "/", "a//b", "$SYS/x", " ", "a b", "ä/世", "$share", long[:maxString]} {
		if err := CheckTopicName(s); err != nil {
			t.Errorf("%.20q: %v", s, err)
		}
		if err := CheckTopicName([]byte(s)); err != nil {
			t.Errorf("%.20q: %v", s, err)
		}
	}
	for s, code := range map[string]ReasonCode{
		"":    ProtocolError,                                                   // [MQTT-4.7.3-1]
		"a/+": TopicNameInvalid, "#": TopicNameInvalid, "ä+": TopicNameInvalid, // [MQTT-4.7.0-1]
		"\x00": MalformedPacket, "\xED\xA0\x80": MalformedPacket, // [MQTT-4.7.3-2]
		long: MalformedPacket, // [MQTT-4.7.3-3]
	} {
		wantCode(t, CheckTopicName(s), code)
	}
}

func TestCheckTopicFilter(t *testing.T) {
	for _, s := range []string{
		"#", "+", "+/+", "/+", "a/#", "/", "a//b", "+/a/#", "$SYS/#", "$share", "$shared/a", "ä/+/世",
		"$share/g/#", "$share/g/a/+", "$share/g//", "$share/ä/$SYS/#",
	} {
		if err := CheckTopicFilter(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for s, code := range map[string]ReasonCode{
		"":   ProtocolError,
		"a#": TopicFilterInvalid, "a/#/b": TopicFilterInvalid, "#/": TopicFilterInvalid, "##": TopicFilterInvalid, // [MQTT-4.7.1-1]
		"+a": TopicFilterInvalid, "a+/b": TopicFilterInvalid, "++": TopicFilterInvalid, "a/+b": TopicFilterInvalid, // [MQTT-4.7.1-2]
		"$share//t": TopicFilterInvalid, "$share/": TopicFilterInvalid, // [MQTT-4.8.2-1]
		"$share/a": TopicFilterInvalid, "$share/a/": TopicFilterInvalid, // [MQTT-4.8.2-2]
		"$share/a+/t": TopicFilterInvalid, "$share/#/t": TopicFilterInvalid, "$share/g/a#": TopicFilterInvalid,
		"a\x00": MalformedPacket, "\xFF": MalformedPacket, long: MalformedPacket,
	} {
		wantCode(t, CheckTopicFilter(s), code)
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{CheckTopicName("a/+"), "mqtt: byte 2: holds a wildcard (0x90 Topic Name invalid)"},
		{(&Publish{Topic: "\xFF"}).Check(V5), "mqtt: PUBLISH: topic name: ill-formed UTF-8 (0x81 Malformed Packet)"},
		{decodeErr(t, V5, "3006 0003 61FF62 00"), "mqtt: PUBLISH: byte 3: topic name: ill-formed UTF-8 (0x81 Malformed Packet)"},
		{decodeErr(t, V5, "2005 00 00 02 24 02"), "mqtt: CONNACK: byte 3: Maximum QoS: value out of range (0x82 Protocol Error)"},
		{decodeErr(t, V5, "300B 0001 74 07 26 0001 FF 0001 76"), "mqtt: PUBLISH: byte 7: User Property: ill-formed UTF-8 (0x81 Malformed Packet)"},
		{decodeErr(t, V5, "4003 0001 FF"), "mqtt: PUBACK: byte 2: reason code 0xFF is not one of PUBACK in MQTT 5.0 (0x82 Protocol Error)"},
		{decodeErr(t, V5, "4102 0001"), "mqtt: PUBACK: wrong flags 0001 in the fixed header (0x81 Malformed Packet)"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %s", c.err, c.want)
		}
	}
}

func decodeErr(t *testing.T, v Version, wire string) error {
	t.Helper()
	_, err := decodePacket(v, unhex(t, wire))
	return err
}

// Errors go into logs, so they hold nothing of what a packet says.
func TestErrorsQuoteNoContent(t *testing.T) {
	const secret = "hunter2"
	for _, err := range []error{
		decodeErr(t, V5, "1019 0004 4D515454 05 C2 0000 00 0000 0001 75 0008 68756E74657232"),
		decodeErr(t, V311, "1016 0004 4D515454 04 82 0000 0000 0008 68756E74657232FF"),
		CheckTopicName(secret + "/#"),
	} {
		if _, ok := errors.AsType[*Error](err); !ok || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
}
