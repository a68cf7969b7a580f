package codec

import (
	"bytes"
	"strings"
	"testing"
)

func TestOversizePublishOf3IsReadPast(t *testing.T) {
	for _, v := range []Version{V31, V311} {
		for name, chunked := range readers {
			for qos := range byte(3) {
				for _, topic := range []string{"t", "plant/7", strings.Repeat("x", maxString)} {
					big := &Publish{QoS: qos, PacketID: uint16(qos) * 300, Topic: topic, Payload: make([]byte, 200_000)}
					stream := AppendPublish(nil, v, big)
					size := len(stream)
					stream = AppendPingreq(stream)
					got, err := frames(v, 1000, chunked(bytes.NewReader(stream)))
					if err != nil || len(got) != 2 {
						t.Fatalf("%s: %d frames, %v", name, len(got), err)
					}
					f := got[0]
					if f.Type != PUBLISH || !f.Oversize || f.Size != size || got[1].Oversize || got[1].Type != PINGREQ {
						t.Fatalf("%s: %+v", name, f)
					}
					if len(f.Body) > maxString+4 {
						t.Errorf("head of %d bytes", len(f.Body))
					}
					var p PublishView
					if err := p.Decode(v, f.Flags, f.Body); err != nil || string(p.Topic) != topic || p.PacketID != big.PacketID {
						t.Errorf("%s: topic of %d bytes, id %d, %v", name, len(p.Topic), p.PacketID, err)
					}
				}
			}
		}
	}
}

// The memory for a packet that is read past is that of the buffer and its head.
func TestOversizePublishIsNotKept(t *testing.T) {
	f := NewFramer(V311, 1000)
	head := unhex(t, "30 FFFFFF7F 0003 612F62")
	if _, err := f.Fill(bytes.NewReader(head)); err != nil {
		t.Fatal(err)
	}
	r := &countingReader{limit: maxVarint - 5}
	for {
		frame, ok, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if string(frame.Body) != "\x00\x03a/b" || frame.Size != maxVarint+5 {
				t.Errorf("%+v", frame)
			}
			break
		}
		if _, err := f.Fill(r); err != nil {
			t.Fatal(err)
		}
		if len(f.buf) > 64<<10 {
			t.Fatalf("buffer of %d bytes", len(f.buf))
		}
	}
	if _, err := f.Fill(&countingReader{limit: 1}); err != nil || f.skip.frame.Body != nil {
		t.Error("the head is kept after the next Fill")
	}
}

// A topic that runs past the oversize packet is found by the decoder.
func TestOversizePublishMalformed(t *testing.T) {
	got, err := frames(V311, 4, bytes.NewReader(unhex(t, "3205 FFFF 612F62 C000")))
	if err != nil || len(got) != 2 || !got[0].Oversize {
		t.Fatalf("%+v, %v", got, err)
	}
	var p PublishView
	wantCode(t, p.Decode(V311, got[0].Flags, got[0].Body), MalformedPacket)
}
