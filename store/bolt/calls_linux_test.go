//go:build amd64 || arm64

// System calls that really fail: a seccomp filter on one thread has the kernel ask
// the test about each call on a file, before it carries the call out.

package bolt_test

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a system call.
type call struct {
	number int
	args   [6]uint64
}

// Calls that change a file or a directory, and those that read a file. The Go
// runtime makes none of them for itself.
var (
	changing = []int{
		unix.SYS_PWRITE64, unix.SYS_FTRUNCATE, unix.SYS_FDATASYNC, unix.SYS_FSYNC,
		unix.SYS_FCHMOD, unix.SYS_FCHOWN, unix.SYS_RENAMEAT, unix.SYS_LINKAT,
	}
	reading = []int{unix.SYS_PREAD64}
)

func (c call) String() string {
	return map[int]string{
		unix.SYS_PWRITE64: "pwrite", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FSYNC: "fsync",
		unix.SYS_FCHMOD: "fchmod", unix.SYS_FCHOWN: "fchown", unix.SYS_RENAMEAT: "rename", unix.SYS_LINKAT: "link",
		unix.SYS_PREAD64: "pread",
	}[c.number]
}

// intercepted runs f on a thread of its own and asks verdict, one call at a time,
// about each of the given calls that f makes: 0 lets it go on, another number is
// its error.
// Calls of goroutines that f starts are not seen; package bolt starts none.
func intercepted(t testing.TB, numbers []int, verdict func(call) syscall.Errno, f func()) {
	t.Helper()
	stop, stopped, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stop.Close()
	type listening struct {
		fd  int
		err error
	}
	listener := make(chan listening, 1)
	var all sync.WaitGroup
	all.Go(func() {
		defer stopped.Close()
		// Never unlocked: the thread ends with the goroutine, and the filter with it.
		// A locked thread starts no others, which would inherit it.
		runtime.LockOSThread()
		fd, err := listen(numbers)
		listener <- listening{fd, err}
		if err == nil {
			f()
		}
	})
	l := <-listener
	if l.err == nil {
		l.err = answer(l.fd, int(stop.Fd()), verdict)
	}
	all.Wait()
	if l.err != nil {
		t.Fatalf("seccomp with Linux 5.19 or later: %v", l.err)
	}
}

// listen puts the filter on this thread and returns where its questions arrive.
func listen(numbers []int) (fd int, err error) {
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0} // the call's number
	program := []unix.SockFilter{load}
	for _, number := range numbers {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(number), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// Killable: a signal of the Go runtime does not take a question back once it was read.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	n, _, number := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&filter)))
	if number != 0 {
		return -1, number
	}
	return int(n), nil
}

// question and reply are struct seccomp_notif and seccomp_notif_resp of
// linux/seccomp.h.
type question struct {
	id          uint64
	pid, flags  uint32
	number      int32
	arch        uint32
	instruction uint64
	args        [6]uint64
}

type reply struct {
	id    uint64
	value int64
	err   int32
	flags uint32
}

// answer answers questions until stop ends.
func answer(fd, stop int, verdict func(call) syscall.Errno) error {
	defer unix.Close(fd)
	for {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop)}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if ready[1].Revents != 0 {
			return nil
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var q question
		switch err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&q)); {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINTR):
			continue // a signal took it back before
		case err != nil:
			return err
		}
		r := reply{id: q.id, err: -int32(verdict(call{int(q.number), q.args}))}
		if r.err == 0 {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		if err := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); err != nil {
			return err
		}
	}
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, number := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); number != 0 {
		return number
	}
	return nil
}

// failing runs f with an error of the nth of the given calls, counted from 0, and
// returns all of them in order.
func failing(t testing.TB, numbers []int, n int, with syscall.Errno, f func()) (made []call) {
	t.Helper()
	intercepted(t, numbers, func(c call) syscall.Errno {
		made = append(made, c)
		if len(made) == n+1 {
			return with
		}
		return 0
	}, f)
	return made
}

// traced runs f and returns the given calls that it made.
func traced(t testing.TB, numbers []int, f func()) []call {
	t.Helper()
	return failing(t, numbers, -1, 0, f)
}
