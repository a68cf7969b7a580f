package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func mustWrite(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", s, n, err)
	}
}

func mustRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %v", what, err, want)
	}
}

func TestPipeCloseLikeTCP(t *testing.T) {
	client, server := Pipe(0)
	mustWrite(t, client, "hello")
	wantError(t, "Close", client.Close(), nil)
	mustRead(t, server, "hello")
	_, err := server.Read(make([]byte, 1))
	wantError(t, "Read at the end", err, io.EOF)
	_, err = server.Write([]byte("x"))
	wantError(t, "Write to a closed peer", err, syscall.ECONNRESET)
	_, err = client.Read(make([]byte, 1))
	wantError(t, "Read of a closed end", err, net.ErrClosed)
	_, err = client.Write([]byte("x"))
	wantError(t, "Write of a closed end", err, net.ErrClosed)
	wantError(t, "second Close", client.Close(), net.ErrClosed)
	wantError(t, "SetDeadline of a closed end", client.SetDeadline(time.Time{}), net.ErrClosed)
}

func TestPipeBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(4)
		done := make(chan error, 1)
		go func() {
			_, err := client.Write([]byte("0123456789"))
			done <- err
		}()
		synctest.Wait()
		if got := client.Link().Pending(ToServer); got != 4 {
			t.Fatalf("pending %d, want 4", got)
		}
		select {
		case err := <-done:
			t.Fatalf("Write returned %v with a full buffer", err)
		default:
		}
		mustRead(t, server, "0123456789")
		wantError(t, "Write", <-done, nil)
	})
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(1)
		start := time.Now()
		client.SetReadDeadline(start.Add(3 * time.Second))
		_, err := client.Read(make([]byte, 1))
		wantError(t, "Read", err, os.ErrDeadlineExceeded)
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Fatalf("%v is no timeout", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Fatalf("Read ended after %v", d)
		}
		// A deadline in the past ends a Read that waits, as closers of links use it.
		client.SetReadDeadline(time.Time{})
		go func() { time.Sleep(time.Second); client.SetReadDeadline(time.Unix(1, 0)) }()
		_, err = client.Read(make([]byte, 1))
		wantError(t, "Read", err, os.ErrDeadlineExceeded)
		client.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := client.Write([]byte("ab"))
		wantError(t, "Write", err, os.ErrDeadlineExceeded)
		if n != 1 {
			t.Fatalf("wrote %d, want 1", n)
		}
		client.SetDeadline(time.Time{})
		mustRead(t, server, "a")
		mustWrite(t, client, "b")
	})
}

func TestPipeCloseWakesBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := Pipe(1)
		errs := make(chan error, 2)
		go func() { _, err := client.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := client.Write([]byte("ab")); errs <- err }()
		synctest.Wait()
		client.Close()
		wantError(t, "blocked call", <-errs, net.ErrClosed)
		wantError(t, "blocked call", <-errs, net.ErrClosed)
	})
}

func TestLinkCut(t *testing.T) {
	client, server := Pipe(0)
	mustWrite(t, client, "lost")
	client.Link().Cut()
	for name, c := range map[string]net.Conn{"client": client, "server": server} {
		_, err := c.Read(make([]byte, 1))
		wantError(t, name+" Read", err, syscall.ECONNRESET)
		_, err = c.Write([]byte("x"))
		wantError(t, name+" Write", err, syscall.ECONNRESET)
	}
}

func TestLinkCutAfter(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after int64
		wrote int
		read  string
	}{{"at once", 0, 0, ""}, {"inside", 3, 3, "abc"}, {"at the end", 6, 6, "abcdef"}} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := Pipe(0)
			mustWrite(t, server, "other way")
			client.Link().CutAfter(ToServer, tt.after)
			n, err := client.Write([]byte("abcdef"))
			if n != tt.wrote || (n < 6) != errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("Write = %d, %v", n, err)
			}
			got, err := io.ReadAll(server)
			if string(got) != tt.read || !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("server read %q, %v", got, err)
			}
			_, err = client.Read(make([]byte, 1))
			wantError(t, "client Read", err, syscall.ECONNRESET)
		})
	}
}

func TestLinkStallHoldsBytesAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(8)
		client.Link().Stall(ToServer)
		mustWrite(t, client, "12345678")
		client.SetWriteDeadline(time.Now().Add(time.Minute))
		_, err := client.Write([]byte("9"))
		wantError(t, "Write into a full stalled link", err, os.ErrDeadlineExceeded)
		mustWrite(t, server, "back") // the other direction goes on
		mustRead(t, client, "back")
		client.Close()
		server.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = server.Read(make([]byte, 1))
		wantError(t, "Read of a stalled link", err, os.ErrDeadlineExceeded)
		server.SetReadDeadline(time.Time{})
		client.Link().Resume(ToServer)
		mustRead(t, server, "12345678")
		_, err = server.Read(make([]byte, 1))
		wantError(t, "Read after Resume", err, io.EOF)
	})
}

func TestLinkDropDelayChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(8)
		link := client.Link()
		link.Drop(ToServer)
		mustWrite(t, client, "more than the buffer holds")
		link.Resume(ToServer)
		link.Delay(ToServer, 2*time.Second)
		start := time.Now()
		mustWrite(t, client, "ab")
		link.Chunk(ToServer, 1)
		buf := make([]byte, 8)
		if n, err := server.Read(buf); n != 1 || err != nil || buf[0] != 'a' {
			t.Fatalf("Read = %q, %v; want one byte, a", buf[:n], err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Fatalf("arrived after %v", d)
		}
		mustRead(t, server, "b")
		if got := link.Written(ToServer); got != 28 {
			t.Fatalf("Written = %d", got)
		}
	})
}

func TestConnConcurrentTransfer(t *testing.T) {
	client, server := Pipe(64)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	go func() {
		for b := sent; len(b) > 0; {
			n := min(len(b), 1000)
			client.Write(b[:n])
			b = b[n:]
		}
		client.Close()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func TestNetworkDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		ctx := context.Background()
		_, err := n.Dial(ctx, "tcp", "a:1883")
		wantError(t, "no listener", err, syscall.ECONNREFUSED)
		ln, err := n.Listen("a:1883")
		wantError(t, "Listen", err, nil)
		_, err = n.Listen("a:1883")
		wantError(t, "second Listen", err, syscall.EADDRINUSE)

		own := errors.New("own")
		n.RefuseDials(1, own)
		_, err = n.Dial(ctx, "tcp", "a:1883")
		wantError(t, "refused dial", err, own)
		c, err := n.Dial(ctx, "tcp", "a:1883")
		wantError(t, "dial after the refused one", err, nil)
		s, err := ln.Accept()
		wantError(t, "Accept", err, nil)
		mustWrite(t, c, "x")
		mustRead(t, s, "x")

		n.OnDial(func(int, string) error { return ErrUnanswered })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = n.Dial(short, "tcp", "a:1883")
		wantError(t, "unanswered dial", err, context.DeadlineExceeded)
		n.OnDial(func(int, string) error { return ErrSilent })
		c, err = n.Dial(ctx, "tcp", "a:1883")
		wantError(t, "silent dial", err, nil)
		c.SetReadDeadline(time.Now().Add(time.Second))
		_, err = c.Read(make([]byte, 1))
		wantError(t, "Read of a silent link", err, os.ErrDeadlineExceeded)
		n.OnDial(nil)
		n.OnLink(func(l *Link) { l.Stall(Both) })
		n.DelayDials(time.Second)
		start := time.Now()
		c, err = n.Dial(ctx, "tcp", "a:1883")
		wantError(t, "dial", err, nil)
		if d := time.Since(start); d != time.Second {
			t.Fatalf("dial took %v", d)
		}
		if n.Dials() != 6 || len(n.Links()) != 3 || n.Last() != c.(*Conn).Link() || n.Last().Number() != 6 {
			t.Fatalf("dials %d, links %d", n.Dials(), len(n.Links()))
		}
		ln.Close()
		_, err = c.Read(make([]byte, 1))
		wantError(t, "Read of a link that was not accepted", err, syscall.ECONNRESET)
		_, err = ln.Accept()
		wantError(t, "Accept after Close", err, net.ErrClosed)
	})
}
