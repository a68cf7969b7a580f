package raw

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestPublishBytes(t *testing.T) {
	tests := []struct {
		name         string
		message      Message
		v5           bool
		subscription int
		want         string
	}{
		{"qos 0", Message{"a/b", 2, 0}, false, 0, "30 07 0003 612f62 0000"},
		{"qos 1", Message{"a/b", 0, 1}, false, 0, "32 07 0003 612f62 0102"},
		{"qos 2 on 5.0", Message{"a/b", 1, 2}, true, 0, "34 09 0003 612f62 0102 00 00"},
		{"subscription identifier", Message{"a/b", 0, 0}, true, 200, "30 09 0003 612f62 03 0b c801"},
		{"two bytes of length", Message{"a", 200, 0}, false, 0, "30 cb01 0001 61" + strings.Repeat("00", 200)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.message.AppendPublish(nil, 0x0102, tt.v5, tt.subscription)
			if want := unhex(t, tt.want); !bytes.Equal(got, want) {
				t.Errorf("% x, want % x", got, want)
			}
		})
	}
}

// TestServerBytes asks and answers with hex, in both versions.
func TestServerBytes(t *testing.T) {
	const connect, connect5 = "10 0d 0004 4d515454 04 02 0000 0001 61", "10 0e 0004 4d515454 05 02 0000 00 0001 61"
	tests := []struct{ name, in, want string }{
		{"connect", connect, "20020000"},
		{"connect 3.1", "10 0f 0006 4d5149736470 03 02 0000 0001 61", "20020000"},
		{"connect 5.0", connect5, "2003000000"},
		{"publish qos 1", connect + "32 06 0001 61 0007 00", "20020000 40020007"},
		{"publish qos 2", connect + "34 06 0001 61 0007 00 62 02 0007", "20020000 50020007 70020007"},
		{"subscribe two", connect + "82 0a 0005 0001 61 01 0001 62 02", "20020000 90 04 0005 01 02"},
		{"subscribe 5.0", connect5 + "82 09 0005 02 0b07 0001 61 01", "2003000000 90 04 0005 00 01"},
		{"unsubscribe", connect + "a2 05 0006 0001 61", "20020000 b0 02 0006"},
		{"unsubscribe 5.0", connect5 + "a2 09 0006 00 0001 61 0001 62", "2003000000 b0 05 0006 00 00 00"},
		{"ping", connect + "c0 00", "20020000 d000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := listen(t, Source{})
			conn, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := conn.Write(unhex(t, tt.in)); err != nil {
				t.Fatal(err)
			}
			want := unhex(t, tt.want)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("% x (%v), want % x", got[:n], err, want)
			}
		})
	}
}

func TestClientAgainstServer(t *testing.T) {
	const n = 20_000
	for _, hop := range []bool{false, true} {
		for _, size := range []int{0, 64, 100_000} {
			for qos := range byte(3) {
				t.Run(fmt.Sprintf("hop=%v size=%d qos=%d", hop, size, qos), func(t *testing.T) {
					count := n
					if size > 1000 {
						count = 200
					}
					m := Message{Topic: "plant/7/line/temp", Payload: size, QoS: qos}
					s := listen(t, Source{Message: m, Count: count, Window: 100})
					c := dial(t, s, hop)
					if err := c.Publish(m, count, 100); err != nil {
						t.Fatal(err)
					}
					if err := c.PublishWait(m); err != nil {
						t.Fatal(err)
					}
					if got := s.Received(); got != int64(count)+1 {
						t.Errorf("the server has %d messages, want %d", got, count+1)
					}
					if qos > 1 {
						return // the source speaks QoS 0 and 1
					}
					if err := c.Receive("plant/#", qos, count); err != nil {
						t.Fatal(err)
					}
				})
			}
		}
	}
}

func listen(t *testing.T, source Source) *Server {
	t.Helper()
	s, err := Listen(source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func dial(t *testing.T, s *Server, hop bool) *Client {
	t.Helper()
	c, err := Dial(s.Addr(), "a", hop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
