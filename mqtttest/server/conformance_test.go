package server

import (
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt/codec"
)

// Packets of a client, by identifier.
const (
	p1    = "32 06 0001 74 0001 61 " // QoS 1, id 1
	p1b   = "32 06 0001 74 0001 62 " // the same id, another payload
	p1dup = "3A 06 0001 74 0001 61 "
	p2    = "32 06 0001 74 0002 61 "
	p2dup = "3A 06 0001 74 0002 61 "
	q1    = "34 06 0001 74 0001 61 " // QoS 2, id 1
	q2    = "34 06 0001 74 0002 61 "
	q1dup = "3C 06 0001 74 0001 61 "
	q2dup = "3C 06 0001 74 0002 61 "
	rel1  = "62 02 0001 "
	rel2  = "62 02 0002 "
	sub1  = "82 06 0001 0001 74 00 "
)

func hold(types ...codec.Type) []codec.Type { return types }

// violations are what a client sends on its first connection and, behind a cut, on its second; the
// server's answers on the first are held back where the case says so.
var violations = []struct {
	name          string
	hold          []codec.Type
	first, second string
	want          string // "" = none
}{
	{"resend in order", hold(codec.PUBACK), p1 + p2, p1dup + p2dup, ""},
	{"PUBACK lost", nil, p1, p1dup, ""},
	{"first sending lost", nil, "", p1dup, ""},
	{"id used again after PUBACK", nil, p1 + p1b, p1, ""},
	{"QoS 2 PUBLISH again, then PUBREL", hold(codec.PUBREC), q1 + q2, q1dup + q2dup + rel1 + rel2, ""},
	{"PUBREL again", hold(codec.PUBCOMP), q1 + rel1, rel1 + q2, ""},

	{"id in use", hold(codec.PUBACK), p1 + p1b, "", "MQTT-2.2.1-3"},
	{"id in use by SUBSCRIBE", hold(codec.SUBACK), sub1 + p1, "", "open SUBSCRIBE"},
	{"SUBSCRIBE takes id in use", hold(codec.PUBACK), p1 + sub1, "", "SUBSCRIBE takes packet identifier 1"},
	{"id in use over a cut", hold(codec.PUBACK), p1, p1b, "MQTT-2.2.1-3"},
	{"resend live", hold(codec.PUBACK), p1 + p1dup, "", "MQTT-4.4.0-1"},
	{"resend live after PUBACK", nil, p1 + p1dup, "", "after its PUBACK"},
	{"resend without DUP", hold(codec.PUBACK), p1, p1, "MQTT-3.3.1-1"},
	{"DUP at first", nil, p1dup, "", "has DUP at its first sending"},
	{"resend out of order", hold(codec.PUBACK), p1 + p2, p2dup + p1dup, "out of its order"},
	{"resend behind new", hold(codec.PUBACK), p1, p2 + p1dup, "behind a new PUBLISH"},
	{"PUBREL resend behind new", hold(codec.PUBCOMP), q1 + rel1, q2 + rel1, "PUBREL 1 sent again behind"},
	{"PUBLISH after PUBREL", hold(codec.PUBCOMP), q1 + rel1, q1dup, "MQTT-4.3.3-6"},
	{"PUBREL order", nil, q1 + q2 + rel2 + rel1, "", "MQTT-4.6.0-4"},
	{"PUBREL without PUBREC", hold(codec.PUBREC), q1 + rel1, "", "without a PUBREC"},
	{"PUBACK of nothing", nil, "40 02 0001", "", "has not seen"},
	{"behind DISCONNECT", nil, DisconnectClient + Pingreq, "", "MQTT-3.14.4-1"},
	{"PINGRESP", nil, Pingresp, "", "not a packet of a client"},
}

func TestViolations(t *testing.T) {
	for _, tt := range violations {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{}, func(b *bed) {
				w := b.connect(connect311("a", false), Connack3)
				b.s.Hold(tt.hold...)
				w.Send(tt.first)
				synctest.Wait()
				w.Cut()
				synctest.Wait()
				if tt.second != "" {
					b.s.Release(nil)
					w = b.connect(connect311("a", false), Connack3Present)
					w.Send(tt.second)
					synctest.Wait()
				}
				if tt.want == "" {
					b.noViolations()
				} else {
					b.violation(tt.want)
				}
			})
		})
	}
}

func TestViolationsOfAckOrder(t *testing.T) {
	for _, tt := range []struct{ name, send, want string }{
		{"in order", "40 02 0001 40 02 0002 50 02 0003 50 02 0004", ""},
		{"QoS 2 before QoS 1", "50 02 0003 40 02 0001 50 02 0004 40 02 0002", ""},
		{"PUBACK", "40 02 0002 40 02 0001", "MQTT-4.6.0-2"},
		{"PUBREC", "50 02 0004 50 02 0003", "MQTT-4.6.0-3"},
		{"PUBACK twice", "40 02 0001 40 02 0001", "nothing is owed"},
		{"PUBACK for QoS 2", "40 02 0003", "PUBACK for a QoS 2"},
		{"PUBREC for QoS 1", "50 02 0001", "PUBREC for a QoS 1"},
		{"PUBCOMP early", "70 02 0003", "PUBCOMP before PUBREL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{}, func(b *bed) {
				w := b.connect(connect5("a", true, ""), Connack)
				w.Send("82 07 0009 00 0001 74 02")
				w.Expect("90 04 0009 00 02")
				for i := range byte(4) {
					b.s.Publish("t", nil, 1+i/2, false)
				}
				w.Expect("32 06 0001 74 0001 00 32 06 0001 74 0002 00 34 06 0001 74 0003 00 34 06 0001 74 0004 00")
				w.Send(tt.send)
				synctest.Wait()
				if tt.want == "" {
					b.noViolations()
				} else {
					b.violation(tt.want)
				}
			})
		})
	}
}

func TestAnnouncedSubscriptionLimits(t *testing.T) {
	none := func(id codec.PropertyID) *codec.Properties {
		return &codec.Properties{Present: codec.PropertySet(0).With(id)}
	}
	for _, tt := range []struct {
		name             string
		props            *codec.Properties
		connack, send    string
		disconnect, want string
	}{
		{"wildcard", none(codec.PropWildcardSubscriptionAvailable), "20 05 00 00 02 28 00", "82 07 0001 00 0001 23 00", "E0 01 A2", "wildcards"},
		{"identifier", none(codec.PropSubscriptionIdentifierAvailable), "20 05 00 00 02 29 00", "82 09 0001 02 0B01 0001 74 00", "E0 01 A1", "identifiers"},
		{"shared", none(codec.PropSharedSubscriptionAvailable), "20 05 00 00 02 2A 00", "82 10 0001 00 000A 2473686172652F672F74 00", "E0 01 9E", "shared"},
		{"retain", none(codec.PropRetainAvailable), "20 05 00 00 02 25 00", "31 04 0001 74 00", "E0 01 9A", "retain"},
		{"no local shared", nil, Connack, "82 10 0001 00 000A 2473686172652F672F74 04", "E0 01 82", ""},
		{"identifier from a client", nil, Connack, "30 06 0001 74 02 0B01", "E0 01 82", ""},
		{"expiry in DISCONNECT", nil, Connack, "E0 07 00 05 11 00000001", "E0 01 82", "Session Expiry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{Connack: tt.props}, func(b *bed) {
				w := b.connect(connect5("a", true, ""), tt.connack)
				w.Send(tt.send)
				w.Expect(tt.disconnect)
				w.ExpectEOF()
				b.violation(tt.want)
			})
		})
	}
}
