package codec

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// long does not fit a string field.
var long = strings.Repeat("x", maxString+1)

// malformedCase is a packet that must be rejected; name tells the clause or the
// row of the list of errors that a client must detect.
type malformedCase struct {
	name    string
	version Version
	wire    string
	code    ReasonCode
}

func testMalformed(t *testing.T, cases []malformedCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s/%s", c.version, c.name, c.wire), func(t *testing.T) {
			p, err := decodePacket(c.version, unhex(t, c.wire))
			if err == nil {
				t.Fatalf("decoded to %+v", p)
			}
			wantCode(t, err, c.code)
		})
	}
}

// refusedCase is a packet that an encoder must refuse.
type refusedCase struct {
	name    string
	version Version
	packet  any
	code    ReasonCode
}

func testRefused(t *testing.T, cases []refusedCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s/%s", c.version, c.name), func(t *testing.T) {
			b, err := appendPacket([]byte("kept"), c.version, c.packet)
			wantCode(t, err, c.code)
			if string(b) != "kept" {
				t.Errorf("destination is % x", b)
			}
		})
	}
}

// TestEveryPrefix cuts each golden packet short at every byte and
// makes the header agree: nothing panics, and what still decodes is a packet
// in its own right.
func TestEveryPrefix(t *testing.T) {
	for _, g := range goldenPackets {
		wire := unhex(t, g.wire)
		for n := range len(wire) - 2 {
			p, err := decodeBody(g.version, Type(wire[0]>>4), wire[0]&15, wire[2:2+n])
			if err == nil {
				checkAgain(t, g.version, p)
			}
		}
	}
}

// TestHeaderFlags tries every first byte in every version [MQTT-2.1.3-1].
func TestHeaderFlags(t *testing.T) {
	for _, v := range versions {
		for first := range 256 {
			typ, flags := Type(first>>4), byte(first&15)
			want := typ != 0 && (typ != AUTH || v == V5)
			switch typ {
			case PUBLISH:
				want = flags&6 != 6 && (flags&8 == 0 || flags&6 != 0)
			case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
				want = flags == 2 || v == V31 && flags == 10
			default:
				want = want && flags == 0
			}
			f := NewFramer(v, 0)
			if _, err := f.Fill(bytes.NewReader([]byte{byte(first), 0x02})); err != nil {
				t.Fatal(err)
			}
			_, ok, err := f.Next()
			if typ == PINGREQ || typ == PINGRESP {
				want = false // a body
			}
			if ok || (err == nil) != want {
				t.Errorf("%s, first byte %02x: ok %v, %v, want accepted %v", v, first, ok, err, want)
			}
			if err != nil {
				wantCode(t, err, MalformedPacket)
			}
		}
	}
}
