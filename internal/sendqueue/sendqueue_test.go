package sendqueue

import (
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// pair returns both ends of a connection over a socket of the system, whose
// first byte has gone from the near end to the far one.
func pair(t *testing.T, network, address string) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	if _, err := near.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// linux skips a test of what only Linux says.
func linux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("this system does not say what the peer's TCP has taken")
	}
}

// reaches waits until the peer's TCP has taken as much as want.
func reaches(t *testing.T, q *Queue, want uint64) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		n, ok := q.Taken()
		if !ok {
			t.Fatal("the system does not say")
		}
		if n >= want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d bytes are taken, want %d", n, want)
		}
		runtime.Gosched()
	}
}

// The end of what was written is reached when the peer has read, and not before,
// whatever is written behind it.
func TestTakenReachesTheEndOfWhatWasWritten(t *testing.T) {
	linux(t)
	near, far := pair(t, "tcp", "127.0.0.1:0")
	q := Of(near)
	if q == nil {
		t.Skip("the kernel does not fill in tcpi_bytes_acked")
	}
	start, _ := q.End()
	reaches(t, q, start)
	wrote := fill(t, near)
	end, ok := q.End()
	if !ok || end != start+uint64(wrote) {
		t.Fatalf("the end is %d, want %d written bytes behind %d", end, wrote, start)
	}
	if taken, _ := q.Taken(); taken >= end {
		t.Fatalf("%d of %d bytes are taken, and the peer has read none", taken, end)
	}
	go func() { _, _ = io.Copy(io.Discard, far) }()
	reaches(t, q, end)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := q.Taken(); ok {
		t.Error("a closed socket says what it has sent")
	}
}

// fill writes until the socket takes no more.
func fill(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		k, err := c.Write(make([]byte, 1<<20))
		n += k
		if err != nil {
			return n
		}
	}
}

// hidden is a connection that shows no socket.
type hidden struct{ net.Conn }

// layered is one that shows the connection below.
type layered struct {
	hidden
	below net.Conn
}

func (l layered) NetConn() net.Conn { return l.below }

func TestTheSocketIsFoundBelowOtherLayers(t *testing.T) {
	linux(t)
	near, _ := pair(t, "tcp", "127.0.0.1:0")
	if Of(near) == nil {
		t.Skip("the kernel does not fill in tcpi_bytes_acked")
	}
	config := &tls.Config{InsecureSkipVerify: true}
	for name, c := range map[string]net.Conn{
		"TLS":        tls.Client(near, config),
		"TLS in TLS": tls.Client(tls.Client(near, config), config),
		"a layer":    layered{hidden{}, near},
	} {
		if Of(c) == nil {
			t.Errorf("%s: no queue", name)
		}
	}
	endless := &layered{}
	endless.below = endless
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for name, c := range map[string]net.Conn{
		"hidden": hidden{near}, "memory": a, "endless": endless, "nothing": layered{},
	} {
		if Of(c) != nil {
			t.Errorf("%s: a queue", name)
		}
	}
}

func TestUnixSocketsHaveNoQueue(t *testing.T) {
	near, _ := pair(t, "unix", filepath.Join(t.TempDir(), "s"))
	if Of(near) != nil {
		t.Error("a queue without TCP")
	}
}
