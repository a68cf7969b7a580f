package mqtt

import (
	"sync/atomic"
	"time"
)

// clock tells what must not stand still while the machine sleeps: how old a message
// is, and how long a backoff has lasted. Go's own monotonic clock and its timers do
// stand still meanwhile on Linux and macOS, and the wall clock may be set. Tests
// replace it.
type clock struct {
	// uptime runs on while the machine sleeps, never goes back and cannot be set.
	// Only differences mean anything, also from one process to the next of a boot.
	uptime func() time.Duration
	// wall is the wall clock.
	wall func() time.Time
	// boot names the boot of the machine that uptime belongs to.
	boot func() bootID
}

// bootID names a boot of the machine; the zero bootID is one that is not known.
type bootID [16]byte

var systemClock = clock{uptime: uptime, wall: time.Now, boot: currentBoot}

// uptime is the monotonic clock with the time added that the machine slept.
func uptime() time.Duration { return startUptime + time.Since(startTime) + asleep() }

var (
	startTime   = time.Now()
	startUptime = monotonicSinceBoot()
	sleptSoFar  atomic.Int64 // nanoseconds, as asleep counted them last
)

// sleepStep is the shortest sleep that counts. Two clocks cannot be read at one
// moment, so that the difference of two readings is never quite the same.
const sleepStep = time.Second

// asleep returns for how long the machine has slept since it booted, or where the
// system does not tell that, since the process began.
func asleep() time.Duration {
	gap, ok := sleepGap()
	if !ok {
		now := time.Now()
		gap = wallGap(startTime.Round(0), now.Round(0), now.Sub(startTime))
	}
	for {
		counted := sleptSoFar.Load()
		if int64(gap)-counted < int64(sleepStep) {
			return time.Duration(counted)
		}
		if sleptSoFar.CompareAndSwap(counted, int64(gap)) {
			return gap
		}
	}
}

// wallGap is how much further the wall clock came from start to now than the
// monotonic one, which tells how long the machine was awake. It stands for sleep on
// systems without a clock that counts it, unless the wall clock had not been set at
// the start.
func wallGap(start, now time.Time, awake time.Duration) time.Duration {
	if start.Before(wallClockSet) {
		return 0
	}
	return now.Sub(start) - awake
}

// wallClockSet is where a wall clock that was set begins: one that was not says 1970.
var wallClockSet = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
