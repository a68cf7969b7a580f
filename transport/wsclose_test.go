package transport

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestWebSocketDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := dialWS(t, Dialer{}, "ws://broker.test")
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: got %v, want the deadline", err)
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if err := c.WriteBatch([][]byte{make([]byte, 1<<20)}); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: got %v, want the deadline", err)
		}
	})
}

func TestWebSocketClose(t *testing.T) {
	t.Run("says goodbye", func(t *testing.T) {
		c, peer := dialWS(t, Dialer{}, "ws://broker.test")
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		wantFrame(t, peer, opClose, "\x03\xe8")
		if err := c.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after Close: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
	})
	t.Run("is quick when the peer reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, peer := dialWS(t, Dialer{}, "ws://broker.test")
			peer.conn.(*memConn).in.update(func(s *memStream) { s.room = 0 })
			start := time.Now()
			_ = c.Close()
			if took := time.Since(start); took > closeGrace {
				t.Errorf("Close took %v", took)
			}
		})
	})
	t.Run("breaks a write in progress", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := dialWS(t, Dialer{}, "ws://broker.test")
			done := make(chan error, 2)
			go func() { done <- c.WriteBatch([][]byte{make([]byte, 1<<20)}) }()
			go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
			synctest.Wait()
			if err := c.WriteBatch([][]byte{{1}}); err != ErrConcurrentWrite {
				t.Errorf("second writer: got %v", err)
			}
			start := time.Now()
			_ = c.Close()
			for range 2 {
				if err := <-done; !errors.Is(err, net.ErrClosed) {
					t.Errorf("got %v, want net.ErrClosed", err)
				}
			}
			if took := time.Since(start); took > closeGrace {
				t.Errorf("Close took %v", took)
			}
		})
	})
}
