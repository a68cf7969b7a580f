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
func uptime() time.Duration {
	now := time.Now()
	return startUptime + now.Sub(startTime) + asleep(now)
}

var (
	startTime   = time.Now()
	startUptime = monotonicSinceBoot()
	sleptSoFar  atomic.Int64 // nanoseconds, as asleep counted them last
	countedAt   atomic.Int64 // when that was, as nanoseconds since startTime and one
	countedGap  atomic.Int64 // the gap between the wall clock and the monotonic one then
)

// sleepStep is the shortest sleep that counts. Two clocks cannot be read at one
// moment, so that the difference of two readings is never quite the same.
const sleepStep = time.Second

// asleep returns for how long the machine has slept since it booted, or where the
// system does not tell that, since the process began. To ask the system costs more than
// time.Now, so it is asked when a sleepStep has passed, or the wall clock has moved
// against the monotonic one, as it does when the machine sleeps.
func asleep(now time.Time) time.Duration {
	awake := now.Sub(startTime)
	moved := now.Round(0).Sub(startTime.Round(0)) - awake
	since := awake + 1 - time.Duration(countedAt.Load())
	step := moved - time.Duration(countedGap.Load())
	if countedAt.Load() != 0 && since >= 0 && since < sleepStep && step.Abs() < sleepStep/2 {
		return time.Duration(sleptSoFar.Load())
	}
	slept := countSleep(now)
	countedGap.Store(int64(moved)) // last, for a reader that finds them finds what was counted
	countedAt.Store(int64(awake) + 1)
	return slept
}

// countSleep asks the system for how long the machine has slept; now is for one that
// does not tell.
func countSleep(now time.Time) time.Duration {
	gap, ok := sleepGap()
	if !ok {
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
