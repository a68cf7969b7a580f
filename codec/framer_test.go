package codec

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// readers are the ways in which bytes may come in.
var readers = map[string]func(io.Reader) io.Reader{
	"one byte": iotest.OneByteReader,
	"half":     iotest.HalfReader,
	"whole":    func(r io.Reader) io.Reader { return r },
	"with EOF": iotest.DataErrReader,
}

func TestFramerUnderChunkedReads(t *testing.T) {
	for _, v := range versions {
		for name, chunked := range readers {
			t.Run(v.String()+"/"+name, func(t *testing.T) {
				var stream []byte
				var want []golden
				for _, g := range goldenPackets {
					if g.version == v {
						stream = append(stream, unhex(t, g.wire)...)
						want = append(want, g)
					}
				}
				got, err := frames(v, 0, chunked(bytes.NewReader(stream)))
				if err != nil || len(got) != len(want) {
					t.Fatalf("%d frames, %v, want %d", len(got), err, len(want))
				}
				for i, f := range got {
					wire := unhex(t, want[i].wire)
					if f.Type != Type(wire[0]>>4) || f.Flags != wire[0]&15 || f.Size != len(wire) || f.Oversize || !bytes.Equal(f.Body, wire[2:]) {
						t.Errorf("frame %d: %+v, want % x", i, f, wire)
					}
				}
			})
		}
	}
}

func TestFramerPacketSizes(t *testing.T) {
	for name, chunked := range readers {
		var stream []byte
		sizes := []int{0, 1, 124, 125, 126, 4_090, 4_096, 16_380, 16_381, 65_530, 65_536, 65_537, 300_000, 1, 2_097_150}
		if name == "one byte" {
			sizes = sizes[:10]
		}
		for _, n := range sizes {
			stream = AppendPublish(stream, V311, &Publish{Topic: "t", Payload: bytes.Repeat([]byte{byte(n)}, n)})
		}
		got, err := frames(V311, 0, chunked(bytes.NewReader(stream)))
		if err != nil || len(got) != len(sizes) {
			t.Fatalf("%s: %d frames, %v", name, len(got), err)
		}
		for i, f := range got {
			if n := sizes[i]; !bytes.Equal(f.Body[3:], bytes.Repeat([]byte{byte(n)}, n)) {
				t.Errorf("%s: payload of %d bytes arrived wrong", name, n)
			}
		}
	}
}

// countingReader counts calls and gives up to limit zero bytes in all.
type countingReader struct{ calls, limit int }

func (r *countingReader) Read(p []byte) (int, error) {
	r.calls++
	n := min(len(p), r.limit)
	r.limit -= n
	clear(p[:n])
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestFillReadsOnce(t *testing.T) {
	f := NewFramer(V5, 0)
	for n := 1; n <= 5; n++ {
		r := &countingReader{limit: 10}
		if got, err := f.Fill(r); got != 10 || err != nil || r.calls != 1 {
			t.Fatalf("Fill %d, %v after %d calls", got, err, r.calls)
		}
		if f.Buffered() != 10*n {
			t.Fatalf("Buffered %d after %d bytes", f.Buffered(), 10*n)
		}
	}
	broken := errors.New("broken")
	if n, err := f.Fill(iotest.ErrReader(broken)); n != 0 || err != broken {
		t.Errorf("Fill %d, %v", n, err)
	}
}

func TestFramerBufferGrowsWithUseAndShrinks(t *testing.T) {
	f := NewFramer(V5, 0)
	small := &endless{data: bytes.Repeat(AppendPublish(nil, V5, hotPublish(0)), 10_000)}
	fill := func(r io.Reader) {
		if _, err := f.Fill(r); err != nil {
			t.Fatal(err)
		}
		for {
			if _, ok, err := f.Next(); !ok {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	for _, want := range []int{1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 64 << 10, 64 << 10} {
		fill(small)
		if len(f.buf) != want {
			t.Fatalf("buffer of %d bytes, want %d", len(f.buf), want)
		}
	}

	f = NewFramer(V5, 0)
	large := bytes.NewReader(AppendPublish(nil, V5, &Publish{Topic: "t", Payload: make([]byte, 5<<20)}))
	for large.Len() > 0 {
		fill(large)
	}
	if f.Buffered() != 0 || len(f.buf) < 5<<20 {
		t.Fatalf("%d bytes left, buffer of %d", f.Buffered(), len(f.buf))
	}
	fill(bytes.NewReader(small.data[:1000]))
	if len(f.buf) != 64<<10 {
		t.Errorf("buffer of %d bytes after a large packet, want 64 KiB", len(f.buf))
	}
}

// TestAnnouncedSizeTakesNoMemory is the row "announced 256 MB packet": a length on the wire is a claim.
func TestAnnouncedSizeTakesNoMemory(t *testing.T) {
	for _, v := range versions {
		f := NewFramer(v, 0)
		if _, err := f.Fill(bytes.NewReader([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})); err != nil {
			t.Fatal(err)
		}
		for got := 5; got < 1<<20; {
			if _, ok, err := f.Next(); ok || err != nil {
				t.Fatalf("ok %v, %v", ok, err)
			}
			n, err := f.Fill(&countingReader{limit: 10_000})
			if err != nil {
				t.Fatal(err)
			}
			got += n
			if limit := max(64<<10, 4*got+4<<10); len(f.buf) > limit {
				t.Fatalf("buffer of %d bytes after %d arrived", len(f.buf), got)
			}
		}
	}
}

func TestFramerHeaderErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		version Version
		wire    string
		code    ReasonCode
	}{
		{"packet type 0", V5, "0000", MalformedPacket},
		{"packet type 0", V311, "0F00", MalformedPacket},
		{"AUTH in 3.1.1", V311, "F000", MalformedPacket},
		{"remaining length > 4 bytes", V5, "30FFFFFFFF7F", MalformedPacket},
		{"remaining length > 4 bytes", V311, "30FFFFFFFF", MalformedPacket},
		{"remaining length not minimal [MQTT-1.5.5-1]", V5, "D08000", MalformedPacket},
		{"remaining length not minimal", V311, "D0808000", MalformedPacket},
		{"larger than the maximum [MQTT-3.1.2-24]", V5, "3064", PacketTooLarge},
		{"not a PUBLISH", V311, "9064", PacketTooLarge},
	} {
		f := NewFramer(c.version, 100)
		if _, err := f.Fill(bytes.NewReader(unhex(t, c.wire))); err != nil {
			t.Fatal(err)
		}
		_, ok, err := f.Next()
		if ok {
			t.Errorf("%s: a frame", c.name)
		}
		wantCode(t, err, c.code)
		if _, _, again := f.Next(); again == nil {
			t.Errorf("%s: the error does not stay", c.name)
		}
	}
}

func TestFramerMaximumCountsTheWholePacket(t *testing.T) {
	p := &Publish{Topic: "t", Payload: make([]byte, 200)}
	wire := AppendPublish(nil, V5, p)
	if got, err := frames(V5, uint32(len(wire)), bytes.NewReader(wire)); err != nil || len(got) != 1 {
		t.Errorf("packet as large as the maximum: %d frames, %v", len(got), err)
	}
	_, err := frames(V5, uint32(len(wire))-1, bytes.NewReader(wire))
	wantCode(t, err, PacketTooLarge)
}

func TestFramerSettersApplyToTheNextPacket(t *testing.T) {
	f := NewFramer(V5, 0)
	publish := unhex(t, "3007 0002 7474 616263")
	if _, err := f.Fill(bytes.NewReader(append([]byte{0xF0, 0x00}, publish...))); err != nil {
		t.Fatal(err)
	}
	if frame, ok, err := f.Next(); !ok || frame.Type != AUTH {
		t.Fatalf("%+v, %v, %v", frame, ok, err)
	}
	f.SetVersion(V311)
	f.SetMax(4)
	if frame, ok, err := f.Next(); !ok || !frame.Oversize {
		t.Fatalf("%+v, %v, %v", frame, ok, err)
	}
}
