package codec

import "testing"

var goldenPing = forVersions([]golden{
	{wire: "C000", packet: &ping{PINGREQ}},
	{wire: "D000", packet: &ping{PINGRESP}},
}, versions...)

func TestPingGolden(t *testing.T) { testGolden(t, goldenPing) }

func TestPingMalformed(t *testing.T) {
	testMalformed(t, []malformedCase{
		{"flags", V5, "C400", MalformedPacket},
		{"flags", V5, "D400", MalformedPacket},
		{"bytes after the end", V5, "D001 00", MalformedPacket},
		{"bytes after the end", V311, "C001 00", MalformedPacket},
	})
}
