package transport

import (
	"io"
	"testing"
)

// A ping that comes while a large message is written is answered behind the frame
// that is being written, not behind the message.
func TestPingIsAnsweredWithinALargeMessage(t *testing.T) {
	c, peer := dialWS(t, Dialer{}, "ws://broker.test")
	due := make(chan struct{}, 1)
	c.SetControlNotify(func() { due <- struct{}{} })
	wrote := make(chan error, 1)
	go func() { wrote <- c.WriteBatch([][]byte{make([]byte, 20*writeBuffer)}) }()
	go func() { _, _ = io.Copy(io.Discard, onlyReader{c}) }()
	if f, err := peer.readFrame(); err != nil || f.op != opBinary || f.final {
		t.Fatalf("got frame %x final %v, %v", f.op, f.final, err)
	}
	_, _ = peer.conn.Write(frame(opPing, true, []byte("now")))
	<-due
	for n := 0; ; n++ {
		f, err := peer.readFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f.op == opPong {
			if string(f.payload) != "now" {
				t.Errorf("pong %q", f.payload)
			}
			break
		}
		if n > 2 || f.final {
			t.Fatalf("no pong behind %d more frames", n)
		}
	}
	for {
		f, err := peer.readFrame()
		if err != nil {
			t.Fatal(err)
		}
		if f.final {
			break
		}
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// Each frame that went through shows, while the message is not through yet; on a
// connection whose socket is hidden, each smaller piece. Control frames do not.
func TestProgressShowsWithinALargeMessage(t *testing.T) {
	c, peer := dialWS(t, Dialer{}, "ws://broker.test")
	progress := make(chan struct{}, 1000)
	c.SetWriteProgress(func() { progress <- struct{}{} })
	const frames = 4
	wrote := make(chan error, 1)
	go func() { wrote <- c.WriteBatch([][]byte{make([]byte, frames*writeBuffer)}) }()
	for n := range frames - 1 {
		if _, err := peer.readFrame(); err != nil {
			t.Fatal(err)
		}
		for range writeBuffer / smallPiece {
			<-progress
		}
		select {
		case err := <-wrote:
			t.Fatalf("the message is through after %d frames: %v", n+1, err)
		default:
		}
	}
	if _, err := peer.readFrame(); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	for len(progress) > 0 {
		<-progress
	}
	_ = c.control.pinged("x")
	if err := c.FlushControl(); err != nil {
		t.Fatal(err)
	}
	if len(progress) > 0 {
		t.Error("a pong passed for a part of a message")
	}
}
