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
