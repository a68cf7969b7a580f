package mqtt

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The clock never goes back, and on Linux it is the time since the boot, which
// /proc/uptime gives with the machine's sleep.
func TestUptimeIsTheTimeSinceTheBoot(t *testing.T) {
	first := uptime()
	for range 10_000 {
		next := uptime()
		if next < first {
			t.Fatalf("%v after %v", next, first)
		}
		first = next
	}
	if runtime.GOOS != "linux" {
		return
	}
	if currentBoot() == (bootID{}) {
		t.Error("the boot has no name")
	}
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip(err)
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	// A container may have an uptime of its own, and then says so by far.
	if off := (uptime() - time.Duration(seconds*float64(time.Second))).Abs(); off > 2*sleepStep && off < time.Minute {
		t.Errorf("%v from /proc/uptime", off)
	}
}

// In a bubble the clock is the virtual one, however long that takes in the world.
func TestUptimeFollowsABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			began, up := time.Now(), uptime()
			time.Sleep(time.Hour)
			if passed := uptime() - up; passed != time.Since(began) {
				t.Fatalf("%v in an hour", passed)
			}
		}
	})
}

// Where the system does not tell sleep the wall clock does, when it is ahead and was
// set at the start: a board that learns the date has not slept.
func TestWallClockStandsForSleep(t *testing.T) {
	start := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		start, now time.Time
		want       time.Duration
	}{
		"awake":                {start, start.Add(time.Minute), 0},
		"asleep for an hour":   {start, start.Add(time.Hour + time.Minute), time.Hour},
		"set back":             {start, start.Add(-time.Hour), -time.Hour - time.Minute},
		"not set at the start": {time.Unix(60, 0), start, 0},
	} {
		if got := wallGap(tc.start, tc.now, time.Minute); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// What is counted of sleep is not lost between two looks at the system's clocks, and the
// wall clock's step, as that of a sleep, makes the next reading look.
func TestSleepIsLookedAtOnceASecondOrWhenTheWallClockMoved(t *testing.T) {
	now := time.Now()
	asleep(now)
	at := countedAt.Load()
	if asleep(now.Add(sleepStep / 2)); countedAt.Load() != at {
		t.Error("looked again within a step")
	}
	if asleep(now.Add(2 * sleepStep)); countedAt.Load() == at {
		t.Error("did not look after two steps")
	}
	asleep(now)
	gap := countedGap.Load()
	countedGap.Store(gap - int64(time.Hour)) // as if the wall clock had gone an hour ahead since
	if asleep(now); countedGap.Load() != gap {
		t.Error("did not look though the wall clock moved")
	}
}

// A message with Expiry reads the clock twice.
func BenchmarkUptime(b *testing.B) {
	for b.Loop() {
		_ = uptime()
	}
}
