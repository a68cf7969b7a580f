//go:build linux && !386

package sendqueue

import (
	"syscall"
	"unsafe"
)

func getsockopt(fd uintptr, level, option int, value unsafe.Pointer, size *uint32) syscall.Errno {
	_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, uintptr(level), uintptr(option),
		uintptr(value), uintptr(unsafe.Pointer(size)), 0)
	return errno
}
