package sendqueue

import (
	"syscall"
	"unsafe"
)

// socketcallGetsockopt is SYS_GETSOCKOPT of linux/net.h: on 386 all calls for
// sockets go through one.
const socketcallGetsockopt = 15

func getsockopt(fd uintptr, level, option int, value unsafe.Pointer, size *uint32) syscall.Errno {
	args := struct {
		fd            uintptr
		level, option int
		value         unsafe.Pointer
		size          *uint32
	}{fd, level, option, value, size}
	_, _, errno := syscall.Syscall(syscall.SYS_SOCKETCALL, socketcallGetsockopt, uintptr(unsafe.Pointer(&args)), 0)
	return errno
}
