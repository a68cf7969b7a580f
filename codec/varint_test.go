package codec

import (
	"encoding/hex"
	"testing"
)

// TestVarint holds the boundaries of table 1-1 to their bytes [MQTT-1.5.5-1].
func TestVarint(t *testing.T) {
	for _, c := range []struct {
		n    int
		wire string
	}{
		{0, "00"}, {1, "01"}, {127, "7f"},
		{128, "8001"}, {16_383, "ff7f"},
		{16_384, "808001"}, {2_097_151, "ffff7f"},
		{2_097_152, "80808001"}, {268_435_455, "ffffff7f"},
	} {
		b := AppendVarint(nil, c.n)
		if hex.EncodeToString(b) != c.wire || VarintSize(c.n) != len(b) {
			t.Errorf("%d: % x, size %d, want %s", c.n, b, VarintSize(c.n), c.wire)
		}
		if v, n := parseVarint(append(b, 0xFF)); v != c.n || n != len(b) {
			t.Errorf("%s: read %d in %d bytes", c.wire, v, n)
		}
		for i := range b {
			if _, n := parseVarint(b[:i]); n != varintShort {
				t.Errorf("%s cut to %d bytes: %d", c.wire, i, n)
			}
		}
	}
	for wire, want := range map[string]int{
		"8000": varintFat, "808000": varintFat, "80808000": varintFat, "ff00": varintFat,
		"80808080": varintLong, "8080808001": varintLong, "ffffffff7f": varintLong,
	} {
		if _, n := parseVarint(unhex(t, wire)); n != want {
			t.Errorf("%s: %d, want %d", wire, n, want)
		}
	}
}

func TestParseHeader(t *testing.T) {
	for wire, want := range map[string]struct {
		typ          Type
		flags        byte
		remaining, n int
	}{
		"":           {},
		"3d":         {PUBLISH, 13, 0, 0},
		"3dff":       {PUBLISH, 13, 0, 0},
		"d000":       {PINGRESP, 0, 0, 2},
		"30ffffff7f": {PUBLISH, 0, maxVarint, 5},
		"3080010000": {PUBLISH, 0, 128, 3},
	} {
		typ, flags, remaining, n, err := ParseHeader(unhex(t, wire))
		if err != nil || typ != want.typ || flags != want.flags || remaining != want.remaining || n != want.n {
			t.Errorf("%s: %v %d %d %d, %v", wire, typ, flags, remaining, n, err)
		}
	}
	for _, wire := range []string{"00", "0000", "30ffffffff", "d08000"} {
		_, _, _, _, err := ParseHeader(unhex(t, wire))
		wantCode(t, err, MalformedPacket)
	}
	wantCode(t, CheckHeader(V311, AUTH, 0), MalformedPacket)
	wantCode(t, CheckHeader(V5, 0, 0), MalformedPacket)
	if err := CheckHeader(V5, AUTH, 0); err != nil {
		t.Error(err)
	}
}

// TestRemainingLengthBoundaries writes packets whose remaining length is at each boundary.
func TestRemainingLengthBoundaries(t *testing.T) {
	for _, n := range []int{127, 128, 16_383, 16_384, 2_097_151, 2_097_152} {
		p := &Unsubscribe{PacketID: 1}
		for left := n - 2; left > 0; {
			size := min(left, 60_000)
			if left-size > 0 && left-size < 3 {
				size -= 3
			}
			p.Filters = append(p.Filters, long[:size-2])
			left -= size
		}
		b, err := AppendUnsubscribe(nil, V311, p)
		if err != nil {
			t.Fatal(err)
		}
		_, _, remaining, head, err := ParseHeader(b)
		if err != nil || remaining != n || len(b) != head+n || head != 1+VarintSize(n) {
			t.Errorf("remaining length %d in a header of %d bytes, %v, want %d", remaining, head, err, n)
		}
	}
}

// TestPropertyLengthBoundaries does the same for the property length.
func TestPropertyLengthBoundaries(t *testing.T) {
	for _, n := range []int{127, 128, 16_383, 16_384} {
		p := &Properties{Present: set(PropReasonString), ReasonString: long[:n-3]}
		b := AppendProperties(nil, p)
		if size, head := parseVarint(b); size != n || head != VarintSize(n) || PropertiesSize(p) != n {
			t.Errorf("property length %d in %d bytes, want %d", size, head, n)
		}
		checkAgain(t, V5, &Disconnect{Props: p})
	}
}

func TestPacketTooLargeToEncode(t *testing.T) {
	p := &Unsubscribe{PacketID: 1, Filters: make([]string, maxVarint/maxString+1)}
	for i := range p.Filters {
		p.Filters[i] = long[:maxString]
	}
	if testing.Short() {
		t.Skip("takes 256 MB")
	}
	_, err := AppendUnsubscribe(make([]byte, 0, maxVarint+1<<20), V311, p)
	wantCode(t, err, PacketTooLarge)
}
