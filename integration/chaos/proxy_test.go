package chaos

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// startEcho starts a server that sends back what it gets.
func startEcho(t *testing.T) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return "mqtt://" + ln.Addr().String()
}

// TestProxyCutsAtAnyByte checks that what comes before the cut arrives, what
// comes behind it does not, and the record tells what was passed on.
func TestProxyCutsAtAnyByte(t *testing.T) {
	url, dir := startEcho(t), t.TempDir()
	p, err := startProxy("test", url, dir, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.mu.Lock()
	p.young = -1000 // every link here ends young: none is to be sheltered for that
	p.mu.Unlock()
	sent := bytes.Repeat([]byte("0123456789"), 10)
	cut := 0
	for range 50 {
		conn, err := net.Dial("tcp", p.ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(sent))
		n, err := io.ReadFull(conn, got)
		if err != nil {
			cut++
		}
		if !bytes.Equal(got[:n], sent[:n]) {
			t.Fatalf("got %q", got[:n])
		}
		conn.Close()
	}
	if cut == 0 || cut == 50 {
		t.Errorf("%d of 50 links cut", cut)
	}
	records, err := filepath.Glob(filepath.Join(dir, "wire-test-*"))
	if err != nil || len(records) != 50 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	text, err := os.ReadFile(records[0])
	if err != nil || len(text) < 6 || text[5] != '0' {
		t.Errorf("record %q, %v", text, err)
	}
}

// TestProxySheltersBeforeAMessageIsSetAside lets links end and looks at which are
// left alone: of three in a row that a client may take for probing ones, one.
func TestProxySheltersBeforeAMessageIsSetAside(t *testing.T) {
	young, old := youngTime/2, 2*youngTime
	for _, c := range []struct {
		name string
		ages []time.Duration // of links that ended, the first unsheltered
		want []bool          // whether the link behind each is sheltered
	}{
		{"two young", []time.Duration{young, young}, []bool{false, true}},
		{"an old one between", []time.Duration{young, old, young, young}, []bool{false, false, false, true}},
		{"sheltered and young", []time.Duration{young, young, young}, []bool{false, true, true}},
		{"sheltered and old, then young", []time.Duration{young, young, old, young}, []bool{false, true, false, true}},
		{"sheltered and old, then old", []time.Duration{young, young, old, old, young}, []bool{false, true, false, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, sheltered := &proxy{}, false
			for i, age := range c.ages {
				p.ended(&link{began: time.Now().Add(-age), sheltered: sheltered})
				if sheltered = p.young >= youngLimit; sheltered != c.want[i] {
					t.Errorf("behind link %d: sheltered is %v", i, sheltered)
				}
			}
		})
	}
}

// TestProxyPassesOnAnEnd ends the sending of one side, behind which the other still
// answers, as the end of a connection may be.
func TestProxyPassesOnAnEnd(t *testing.T) {
	p, err := startProxy("test", startEcho(t), t.TempDir(), rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.spare(true)
	got, _ := throughProxy(t, p, bytes.Repeat([]byte("."), 1<<20))
	if got != 1<<20 {
		t.Errorf("%d bytes came back behind the end, want all", got)
	}
}

// TestProxySlowLine checks that a slow line carries no more than it should.
func TestProxySlowLine(t *testing.T) {
	p, err := startProxy("test", startEcho(t), t.TempDir(), rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.slow(time.Minute)
	got, took := throughProxy(t, p, make([]byte, slowRate/2))
	if got != slowRate/2 || took < time.Second/2 {
		t.Errorf("%d bytes in %v, want half of %d in half a second or more", got, took, slowRate)
	}
}

// throughProxy sends bytes, ends the sending, and returns how many came back.
func throughProxy(t *testing.T, p *proxy, sent []byte) (got int64, took time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begin := time.Now()
	written := make(chan error, 1)
	go func() { // ends with the write, for which the echo makes room
		_, err := conn.Write(sent)
		written <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
	}()
	got, err = io.Copy(io.Discard, conn)
	if err := errors.Join(err, <-written); err != nil {
		t.Error(err)
	}
	return got, time.Since(begin)
}
