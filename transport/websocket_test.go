package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/millrace/mqtt/internal/chance"
)

// dialWS returns a connection and the raw peer at its other end.
func dialWS(t *testing.T, d Dialer, raw string) (*WebSocketConn, *wsPeer) {
	t.Helper()
	n := newMemNet(t)
	peers := make(chan *wsPeer, 1)
	n.handlers["broker.test:80"] = func(conn net.Conn) {
		p, err := acceptWS(conn, "mqtt")
		if err != nil {
			t.Errorf("upgrade: %v", err)
		}
		peers <- p
		<-n.over // until then the test reads and writes
	}
	d.DialFunc = n.dial
	conn, err := d.Dial(t.Context(), mustParse(t, raw))
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*WebSocketConn), <-peers
}

func mustParse(t testing.TB, raw string) *URL {
	t.Helper()
	u, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Every way to cut the stream into frames, as messages and as fragments of
// one, alone and with pings between, gives the same bytes [MQTT-6.0.0-2].
func TestEverySplitReadsTheSame(t *testing.T) {
	stream := make([]byte, 300)
	random := chance.Rand(t)
	for i := range stream {
		stream[i] = byte(random.Uint32())
	}
	cuts := map[string][]int{"one byte each": nil, "all in one": {len(stream)}, "with empty ones": {0, 100, 0, 200, 0}}
	for range stream {
		cuts["one byte each"] = append(cuts["one byte each"], 1)
	}
	splits := slices.Collect(func(yield func([]int) bool) {
		for _, sizes := range cuts {
			if !yield(sizes) {
				return
			}
		}
		for i := 1; i < len(stream); i++ {
			if !yield([]int{i, len(stream) - i}) {
				return
			}
		}
	})
	readers := map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
	}
	for _, fragments := range []bool{false, true} {
		for _, pings := range []bool{false, true} {
			for _, sizes := range splits {
				wire := cutUp(stream, sizes, fragments, pings)
				for name, chunked := range readers {
					got, err := io.ReadAll(chunked(readingConn(wire)))
					if err != nil || !bytes.Equal(got, stream) {
						t.Fatalf("fragments %v, pings %v, read %s, cut %v: %d bytes, %v", fragments, pings, name, sizes, len(got), err)
					}
				}
			}
		}
	}
}

// cutUp ends with a normal close frame.
func cutUp(stream []byte, sizes []int, fragments, pings bool) []byte {
	var wire []byte
	for i, size := range sizes {
		op, final := byte(opBinary), true
		if fragments {
			final = i == len(sizes)-1
			if i > 0 {
				op = opContinue
			}
		}
		wire = append(wire, frame(op, final, stream[:size])...)
		stream = stream[size:]
		if pings {
			wire = append(wire, frame(opPing, true, []byte{byte(i)})...)
			wire = append(wire, frame(opPong, true, nil)...)
		}
	}
	return append(wire, frame(opClose, true, []byte{0x03, 0xe8})...)
}

func TestPongsAreTheWritersToSend(t *testing.T) {
	c, peer := dialWS(t, Dialer{}, "ws://broker.test")
	notified := 0
	c.SetControlNotify(func() { notified++ })
	for _, data := range []string{"first", "second", "latest"} {
		_, _ = peer.conn.Write(frame(opPing, true, []byte(data)))
	}
	_, _ = peer.conn.Write(frame(opBinary, true, []byte("x")))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if notified != 3 {
		t.Errorf("notified %d times, want 3", notified)
	}
	// Had the reader written, its pong would be the first frame here.
	if err := c.FlushControl(); err != nil {
		t.Fatal(err)
	}
	if err := c.FlushControl(); err != nil { // nothing is owed any more
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, peer, opPong, "latest")
	wantFrame(t, peer, opBinary, "data")

	_, _ = peer.conn.Write(frame(opPing, true, nil))
	_, _ = peer.conn.Write(frame(opBinary, true, []byte("y")))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteBatch([][]byte{[]byte("more")}); err != nil {
		t.Fatal(err)
	}
	wantFrame(t, peer, opPong, "")
	wantFrame(t, peer, opBinary, "more")
}

func wantFrame(t *testing.T, peer *wsPeer, op byte, payload string) {
	t.Helper()
	f, err := peer.readFrame()
	if err != nil || f.op != op || !f.final || string(f.payload) != payload {
		t.Fatalf("got frame %x final %v %q, %v; want %x final %q", f.op, f.final, f.payload, err, op, payload)
	}
}

// One writer and one reader at full speed, a peer that pings with every frame:
// the stream comes back whole, under the race detector too.
func TestReaderBesideWriter(t *testing.T) {
	c, peer := dialWS(t, Dialer{}, "ws://broker.test")
	due := make(chan struct{}, 1)
	c.SetControlNotify(func() {
		select {
		case due <- struct{}{}:
		default:
		}
	})
	pongs := make(chan int, 1)
	go func() {
		count := 0
		defer func() { pongs <- count }()
		for {
			f, err := peer.readFrame()
			if err != nil || f.op == opClose {
				return
			}
			if f.op == opPong {
				count++
				continue
			}
			_, _ = peer.conn.Write(append(frame(opPing, true, []byte("?")), frame(opBinary, true, f.payload)...))
		}
	}()

	const rounds = 500
	sent := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		var err error
		for i := range rounds {
			err = errors.Join(err, c.WriteBatch([][]byte{{byte(i)}, bytes.Repeat([]byte{byte(i)}, i)}))
		}
		for {
			select {
			case <-due:
				err = errors.Join(err, c.FlushControl())
			case <-stop:
				sent <- errors.Join(err, c.FlushControl())
				return
			}
		}
	}()
	for i := range rounds {
		got := make([]byte, 1+i)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 1+i)) {
			t.Fatalf("round %d: %v", i, err)
		}
	}
	close(stop)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if count := <-pongs; count == 0 || count > rounds {
		t.Errorf("%d pongs for %d pings", count, rounds)
	}
}

func TestHowTheStreamEnds(t *testing.T) {
	half := frame(opBinary, true, []byte("abcdef"))[:4]
	tests := []struct {
		name, wire string
		want       error
		code       int
		reply      string
	}{
		{"normal close", string(frame(opClose, true, []byte{0x03, 0xe8})), io.EOF, 0, "\x03\xe8"},
		{"close without status", string(frame(opClose, true, nil)), io.EOF, 0, ""},
		{"policy", string(frame(opClose, true, []byte("\x03\xf0banned"))), io.EOF, 1008, "\x03\xf0"},
		{"no close frame", "", io.ErrUnexpectedEOF, 0, "none"},
		{"cut within a frame", string(half), io.ErrUnexpectedEOF, 0, "none"},
		{"text", string(frame(opText, true, []byte("x"))), ErrTextFrame, 0, "\x03\xeb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, peer := dialWS(t, Dialer{}, "ws://broker.test")
			_, _ = io.WriteString(peer.conn, tt.wire)
			if tt.reply == "none" {
				peer.conn.(*memConn).out.update(func(s *memStream) { s.writerGone = true })
			}
			_, err := io.Copy(io.Discard, onlyReader{c})
			if tt.want == io.EOF && tt.code == 0 {
				if err != nil {
					t.Fatalf("got %v, want a plain EOF", err)
				}
			} else if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if end, ok := errors.AsType[*CloseError](err); ok != (tt.code != 0) || ok && (end.Code != tt.code || end.Text != "banned") {
				t.Errorf("got %#v, want code %d", err, tt.code)
			}
			for range 2000 { // gorilla panics when a failed connection is read on
				if _, again := c.Read(make([]byte, 1)); again == nil {
					t.Fatal("an error must be final")
				}
			}
			if tt.reply != "none" {
				if err := c.FlushControl(); err != nil {
					t.Fatal(err)
				}
				wantFrame(t, peer, opClose, tt.reply)
			}
		})
	}
}

type onlyReader struct{ io.Reader }

// What breaks RFC 6455 ends the stream, and the reader does not write even then.
func TestBrokenFrames(t *testing.T) {
	tests := map[string]string{
		"reserved bit":             "\xc2\x01x",
		"masked":                   "\x82\x81\x00\x00\x00\x00x",
		"unknown opcode":           "\x83\x01x",
		"continues nothing":        "\x80\x01x",
		"fragmented ping":          "\x09\x00",
		"long ping":                "\x89\x7e\x00\x7e" + strings.Repeat("x", 126),
		"message within a message": "\x02\x01x\x82\x01x",
		"bad close code":           "\x88\x02\x00\x01",
		"negative length":          "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
	}
	for name, wire := range tests {
		t.Run(name, func(t *testing.T) {
			c, peer := dialWS(t, Dialer{}, "ws://broker.test")
			_, _ = io.WriteString(peer.conn, wire)
			if _, err := io.Copy(io.Discard, onlyReader{c}); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("got %v, want a protocol error", err)
			}
			if in := peer.conn.(*memConn).in; len(in.data) > 0 || peer.in.Buffered() > 0 {
				t.Errorf("the reader wrote % x", in.data)
			}
			if _, err := c.Write([]byte("x")); err == nil && name != "negative length" {
				t.Error("a write after a protocol error must fail")
			}
		})
	}
}

func TestOutboundFraming(t *testing.T) {
	fill := func(n int) []byte { return bytes.Repeat([]byte{0xA5}, n) }
	tests := []struct {
		name   string
		batch  [][]byte
		frames []int
	}{
		{"one packet", [][]byte{{0xC0, 0x00}}, []int{2}},
		{"several packets", [][]byte{{1}, {2, 3}, nil, {4}}, []int{4}},
		{"125", [][]byte{fill(125)}, []int{125}},
		{"126", [][]byte{fill(126)}, []int{126}},
		{"65535", [][]byte{fill(65535)}, []int{65535}},
		{"65536", [][]byte{fill(65536)}, []int{65536}},
		{"the whole buffer", [][]byte{fill(1000), fill(writeBuffer - 1000)}, []int{writeBuffer}},
		{"one more", [][]byte{fill(writeBuffer), {1}}, []int{writeBuffer, 1}},
		{"large payload beside it", [][]byte{fill(10), fill(3 * writeBuffer)}, []int{writeBuffer, writeBuffer, writeBuffer, 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, peer := dialWS(t, Dialer{}, "ws://broker.test")
			want, before := bytes.Join(tt.batch, nil), bytes.Join(tt.batch, nil)
			done := make(chan error, 1)
			go func() { done <- c.WriteBatch(tt.batch) }()
			var got []byte
			for i, size := range tt.frames {
				f, err := peer.readFrame()
				if err != nil {
					t.Fatal(err)
				}
				op := byte(opContinue)
				if i == 0 {
					op = opBinary
				}
				if f.op != op || len(f.payload) != size || f.final != (i == len(tt.frames)-1) {
					t.Fatalf("frame %d: opcode %x, %d bytes, final %v", i, f.op, len(f.payload), f.final)
				}
				got = append(got, f.payload...)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) || !bytes.Equal(bytes.Join(tt.batch, nil), before) {
				t.Error("the bytes differ, or the caller's were changed")
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		c, peer := dialWS(t, Dialer{}, "ws://broker.test")
		if err := c.WriteBatch([][]byte{nil, {}}); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		wantFrame(t, peer, opBinary, "x")
	})
}

// countingPool sees every buffer come and go.
type countingPool struct {
	kept []any
	gets int
}

func (p *countingPool) Put(b any) { p.kept = append(p.kept, b) }

func (p *countingPool) Get() any {
	p.gets++
	if len(p.kept) == 0 {
		return nil
	}
	b := p.kept[0]
	p.kept = p.kept[1:]
	return b
}

func TestWriteBuffersAreShared(t *testing.T) {
	pool := new(countingPool)
	for range 3 {
		c, peer := dialWS(t, Dialer{WriteBuffers: pool}, "ws://broker.test")
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		wantFrame(t, peer, opBinary, "x")
	}
	if pool.gets != 3 || len(pool.kept) != 1 {
		t.Errorf("%d buffers taken, %d in the pool; want 3 and the same 1", pool.gets, len(pool.kept))
	}
}
