package mqtt

import (
	"encoding/hex"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// The clocks of clock_gettime(2) that the standard library has no name for.
const (
	clockMonotonic = 1 // stands still while the machine sleeps; Go's own
	clockBoottime  = 7 // the same with sleep
)

// sleepGap returns for how long the machine has slept since it booted.
func sleepGap() (gap time.Duration, ok bool) {
	boot, ok := readClock(clockBoottime)
	mono, _ := readClock(clockMonotonic) // read last, so that the gap is never too wide
	return boot - mono, ok
}

// monotonicSinceBoot is Go's monotonic clock as the system counts it.
func monotonicSinceBoot() time.Duration {
	d, _ := readClock(clockMonotonic)
	return d
}

func readClock(id uintptr) (d time.Duration, ok bool) {
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}

// currentBoot reads the name that the kernel gave to this boot.
func currentBoot() (id bootID) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return bootID{}
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(b) != len(id) {
		return bootID{}
	}
	return bootID(b)
}
