package codec

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// FuzzDecode: no bytes make a decoder panic, and what decodes is encoded to
// bytes that decode to the same.
func FuzzDecode(f *testing.F) {
	for _, g := range goldenPackets {
		wire := unhex(f, g.wire)
		f.Add(byte(g.version), wire[0], wire[2:])
	}
	f.Fuzz(func(t *testing.T, version, first byte, body []byte) {
		v := V31 + Version(version%3)
		typ := Type(first >> 4)
		if !typ.validIn(v) || !flagsValid(v, typ, first&15) {
			return
		}
		p, err := decodeBody(v, typ, first&15, body)
		if err != nil {
			if _, ok := err.(*Error); !ok {
				t.Fatalf("error of type %T: %v", err, err)
			}
			_ = err.Error()
			return
		}
		checkAgain(t, v, p)
	})
}

// checkAgain encodes p, decodes the result and compares.
func checkAgain(t *testing.T, v Version, p any) {
	t.Helper()
	if readOnly(v, p) {
		return
	}
	wire, err := appendPacket(nil, v, p)
	if err != nil {
		t.Fatalf("%+v decoded and does not encode: %v", p, err)
	}
	again, err := decodePacket(v, wire)
	if err != nil {
		t.Fatalf("%+v encoded to % x: %v", p, wire, err)
	}
	if !samePacket(p, again) {
		t.Fatalf("%+v became %+v on the way through % x", p, again, wire)
	}
}

// readOnly reports whether p has a refusal that is read and never written.
func readOnly(v Version, p any) bool {
	switch p := p.(type) {
	case *Connack:
		return !p.Short && p.Code.refuses(CONNACK, v) && !p.Code.ValidFor(CONNACK, v)
	case *Suback:
		return slices.ContainsFunc(p.Codes, func(c ReasonCode) bool { return c.refuses(SUBACK, v) && !c.ValidFor(SUBACK, v) })
	}
	return false
}

// samePacket compares packets by what they say: the order in which properties
// stood on the wire, and empty against nil, do not count.
func samePacket(a, b any) bool {
	if x, ok := a.(*Ack); ok {
		y := b.(*Ack)
		return x.Type == y.Type && x.PacketID == y.PacketID && x.Code == y.Code &&
			reflect.DeepEqual(decodeProps(x.Props), decodeProps(y.Props))
	}
	if x, ok := a.(*Publish); ok {
		x, y := *x, *b.(*Publish)
		same := bytes.Equal(x.Payload, y.Payload)
		x.Payload, y.Payload = nil, nil
		return same && reflect.DeepEqual(x, y)
	}
	forgetCut(a)
	forgetCut(b)
	return reflect.DeepEqual(a, b)
}

// forgetCut clears the mark that User Properties were left out: they are not on the wire
// when the packet is encoded again.
func forgetCut(packet any) {
	if f := reflect.ValueOf(packet).Elem().FieldByName("Props"); f.IsValid() {
		if p, ok := f.Interface().(*Properties); ok && p != nil {
			p.UserCut = false
		}
	}
}

// FuzzRoundTrip: a packet made from a seed encodes, and decodes to what it was.
func FuzzRoundTrip(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(seed, byte(seed), byte(seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, typ, version byte) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		v := V31 + Version(version%3)
		p := g.packet(v, Type(typ%15)+1)
		if p == nil {
			return
		}
		checkAgain(t, v, p)
		if pub, ok := p.(*Publish); ok {
			if n := len(AppendPublish(nil, v, pub)); n != PublishSize(v, pub) {
				t.Fatalf("PublishSize %d, encoded %d bytes", PublishSize(v, pub), n)
			}
		}
	})
}

// FuzzFramer: however the stream is split, the frames are those of the stream read at once.
func FuzzFramer(f *testing.F) {
	var all []byte
	for _, g := range goldenPackets {
		if g.version == V5 {
			all = append(all, unhex(f, g.wire)...)
		}
	}
	f.Add(byte(2), uint32(0), uint64(1), all)
	f.Add(byte(1), uint32(12), uint64(2), unhex(f, "300E 0003 612F62 0102030405060708 3A C000"))
	f.Add(byte(0), uint32(8), uint64(3), unhex(f, "3210 FFFF 612F62 0102030405060708090A0B C000"))
	f.Fuzz(func(t *testing.T, version byte, limit uint32, seed uint64, stream []byte) {
		v := V31 + Version(version%3)
		want, wantErr := frames(v, limit, bytes.NewReader(stream))
		readers := map[string]io.Reader{
			"one byte": iotest.OneByteReader(bytes.NewReader(stream)),
			"half":     iotest.HalfReader(bytes.NewReader(stream)),
			"random":   &splitReader{bytes.NewReader(stream), rand.New(rand.NewPCG(seed, 0))},
		}
		for name, r := range readers {
			got, err := frames(v, limit, r)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
				t.Fatalf("%s: %+v, %v, want %+v, %v", name, got, err, want, wantErr)
			}
		}
	})
}

// frames reads r to its end and returns copies of the frames.
func frames(v Version, limit uint32, r io.Reader) (all []Frame, err error) {
	f := NewFramer(v, limit)
	for {
		frame, ok, err := f.Next()
		if err != nil {
			return all, err
		}
		if ok {
			frame.Body = append([]byte{}, frame.Body...)
			all = append(all, frame)
			continue
		}
		if n, err := f.Fill(r); n == 0 && err != nil {
			return all, nil
		}
	}
}

// splitReader reads a random number of bytes at a time.
type splitReader struct {
	r    io.Reader
	rand *rand.Rand
}

func (s *splitReader) Read(p []byte) (int, error) {
	return s.r.Read(p[:min(len(p), 1+s.rand.IntN(9))])
}

// FuzzText: the text checks agree with slow ones written from the standard.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a/b", "+/#", "#/a", "a+", "$share/g/a/+", "$share//a", "$share/g", "$share/g+/a", "\x00", "\xed\xa0\x80", "\xef\xbb\xbfä"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > maxString {
			return
		}
		good := utf8.ValidString(s) && !strings.Contains(s, "\x00")
		name := good && s != "" && !strings.ContainsAny(s, "+#")
		filter := good && s != "" && goodFilter(s)
		for what, c := range map[string]struct {
			want bool
			errs [2]error
		}{
			"UTF-8":  {good, [2]error{CheckUTF8(s), CheckUTF8([]byte(s))}},
			"name":   {name, [2]error{CheckTopicName(s), CheckTopicName([]byte(s))}},
			"filter": {filter, [2]error{CheckTopicFilter(s), CheckTopicFilter([]byte(s))}},
		} {
			if (c.errs[0] == nil) != c.want || !reflect.DeepEqual(c.errs[0], c.errs[1]) {
				t.Fatalf("%q as %s: %v, %v, want ok %v", s, what, c.errs[0], c.errs[1], c.want)
			}
		}
	})
}

// goodFilter is sections 4.7.1 and 4.8.2 level by level.
func goodFilter(s string) bool {
	levels := strings.Split(s, "/")
	if levels[0] == "$share" && len(levels) > 1 {
		if len(levels) < 3 || levels[1] == "" || strings.ContainsAny(levels[1], "+#") || len(levels) == 3 && levels[2] == "" {
			return false
		}
		levels = levels[2:]
	}
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i != len(levels)-1 {
			return false
		}
	}
	return true
}
