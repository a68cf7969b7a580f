package sendqueue

import (
	"net"
	"testing"
)

// Where the system does not say what is taken, no more than maxUnsent waits in
// the kernel besides what the peer's buffer has.
func TestUnsentBytesAreLimited(t *testing.T) {
	unlimited, _ := pair(t, "tcp", "127.0.0.1:0")
	limited, _ := pair(t, "tcp", "127.0.0.1:0")
	raw, err := limited.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	limitUnsent(raw)
	if more, less := fill(t, unlimited), fill(t, limited); less >= more {
		t.Errorf("%d bytes are written with the limit, %d without", less, more)
	}
}
