package codec

import (
	"encoding/hex"
	"fmt"
	"testing"
)

// golden is a packet and its bytes, written by hand from the standard.
type golden struct {
	version Version
	wire    string
	packet  any
	oneWay  bool // decodes to packet, which encodes to another form
}

func set(ids ...PropertyID) (s PropertySet) {
	for _, id := range ids {
		s = s.With(id)
	}
	return s
}

// goldenPackets are the tables of all packets, for the fuzz targets' seeds.
var goldenPackets = joinGolden(goldenConnect, goldenConnack, goldenPublish, goldenAck, goldenSubscribe,
	goldenSuback, goldenUnsubscribe, goldenUnsuback, goldenPing, goldenDisconnect, goldenAuth)

func joinGolden(tables ...[]golden) (all []golden) {
	for _, t := range tables {
		all = append(all, t...)
	}
	return all
}

// testGolden runs a table in both directions.
func testGolden(t *testing.T, table []golden) {
	t.Helper()
	for _, g := range table {
		t.Run(fmt.Sprintf("%s/%.24s", g.version, g.wire), func(t *testing.T) {
			wire := unhex(t, g.wire)
			got, err := decodePacket(g.version, wire)
			if err != nil {
				t.Fatal(err)
			}
			if !samePacket(g.packet, got) {
				t.Errorf("decoded %+v, want %+v", got, g.packet)
			}
			if g.oneWay {
				return
			}
			b, err := appendPacket([]byte{0xAA}, g.version, g.packet)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(b) != "aa"+hex.EncodeToString(wire) {
				t.Errorf("encoded % x, want aa % x", b, wire)
			}
		})
	}
}

// forVersions repeats a table for several versions.
func forVersions(table []golden, vs ...Version) (all []golden) {
	for _, v := range vs {
		for _, g := range table {
			g.version = v
			all = append(all, g)
		}
	}
	return all
}
