//go:build linux || darwin

package sendqueue

import "syscall"

// maxUnsent is how much may wait in the kernel that is not on its way yet.
const maxUnsent = 128 << 10

// limitUnsent keeps what is written short of what is sent, where the system
// offers that: then at least the part of the queue that no peer has seen is
// short. An error means that it stays as it was.
func limitUnsent(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotsentLowat, maxUnsent)
	})
}
