package sendqueue

import (
	"syscall"
	"unsafe"
)

// ackedAt is the offset of tcpi_bytes_acked in struct tcp_info, in 8 bytes; it is
// there since Linux 4.1.
const ackedAt = 15

// tcpNotsentLowat is TCP_NOTSENT_LOWAT, which package syscall does not have.
const tcpNotsentLowat = 25

// Taken returns how many bytes the peer's TCP has acknowledged since the
// connection began. It is false when the system does not say.
func (q *Queue) Taken() (n uint64, ok bool) {
	err := q.conn.Control(func(fd uintptr) { n, ok = acked(fd) })
	return n, ok && err == nil
}

// End returns what Taken will return when all that has been written until now is
// taken.
func (q *Queue) End() (n uint64, ok bool) {
	err := q.conn.Control(func(fd uintptr) { n, ok = end(fd) })
	return n, ok && err == nil
}

// endTries bounds the search for a moment at which nothing is taken.
const endTries = 100

// end adds what is taken and what is in the queue. The two come from two calls:
// they are of one moment when nothing was taken between them. Where such a moment
// is not found the sum is too low, so that it is always reached.
func end(fd uintptr) (sum uint64, ok bool) {
	before, ok := acked(fd)
	for try := 0; ok && try < endTries; try++ {
		var unacked int32
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&unacked)))
		if errno != 0 || unacked < 0 {
			return 0, false
		}
		sum = before + uint64(unacked)
		var after uint64
		if after, ok = acked(fd); after == before {
			break
		}
		before = after
	}
	return sum, ok
}

// acked reads tcpi_bytes_acked.
func acked(fd uintptr) (uint64, bool) {
	var info [ackedAt + 1]uint64
	size := uint32(unsafe.Sizeof(info))
	errno := getsockopt(fd, syscall.IPPROTO_TCP, syscall.TCP_INFO, unsafe.Pointer(&info), &size)
	return info[ackedAt], errno == 0 && size == uint32(unsafe.Sizeof(info))
}
