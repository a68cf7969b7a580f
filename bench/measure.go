package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// result is one run of one client in one scenario.
type result struct {
	Scenario string  `json:"scenario"`
	Client   string  `json:"client"`
	Count    int     `json:"count"`            // messages, or connections when idle
	Seconds  float64 `json:"seconds"`          // wall clock
	CPU      float64 `json:"cpu_ns"`           // user+system of the client's process, ns per message
	Allocs   float64 `json:"allocs"`           // heap allocations per message
	P50      float64 `json:"p50_us,omitempty"` // latency, where messages go one at a time

	Commits    float64 `json:"commits,omitempty"`    // to the store, per message
	RSS        float64 `json:"rss_bytes,omitempty"`  // resident memory per idle connection
	Goroutines float64 `json:"goroutines,omitempty"` // per idle connection

	Unsupported bool `json:"unsupported,omitempty"`
}

func (r result) perSecond() float64 { return float64(r.Count) / r.Seconds }

// runTimeout ends a run in which a client has hung.
const runTimeout = 2 * time.Minute

// measure runs a scenario's body between two readings of this process's meters.
// The connection is made before.
func measure(s scenario, cfg config, dial dialer) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	r := result{Scenario: s.name, Client: cfg.Client, Count: cfg.Count}
	c, err := dial(ctx, cfg.Addr, "bench")
	if err != nil {
		return r, fmt.Errorf("connect: %w", err)
	}
	laps := make([]time.Duration, 0, cfg.Count)
	runtime.GC() // what connecting left is not the run's
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, cpu, commits := time.Now(), cpuTime(), commitsOf(c)
	err = s.body(ctx, c, cfg, func(d time.Duration) { laps = append(laps, d) })
	r.Seconds = time.Since(start).Seconds()
	used := cpuTime() - cpu
	runtime.ReadMemStats(&after)
	if err == errUnsupported {
		r.Unsupported = true
		return r, c.close()
	}
	if err != nil {
		return r, err
	}
	r.CPU = float64(used.Nanoseconds()) / float64(cfg.Count)
	r.Commits = float64(commitsOf(c)-commits) / float64(cfg.Count)
	r.Allocs = float64(after.Mallocs-before.Mallocs) / float64(cfg.Count)
	if len(laps) > 0 {
		slices.Sort(laps)
		r.P50 = float64(laps[len(laps)/2].Nanoseconds()) / 1e3
	}
	return r, c.close()
}

func commitsOf(c client) uint64 {
	if c, ok := c.(committer); ok {
		return c.commits()
	}
	return 0
}

// measureIdle counts what each of many idle connections holds.
func measureIdle(cfg config, dial dialer) (result, error) {
	const first = 10 // pay for what a process pays once
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	r := result{Scenario: idleName, Client: cfg.Client, Count: cfg.Count}
	var clients []client
	connect := func(n int) error {
		for range n {
			c, err := dial(ctx, cfg.Addr, fmt.Sprintf("bench%d", len(clients)))
			if err != nil {
				return fmt.Errorf("connection %d: %w", len(clients), err)
			}
			if idler, ok := c.(interface{ idle() }); ok {
				go idler.idle() // ends with the connection, closed below
			}
			clients = append(clients, c)
		}
		return nil
	}
	if err := connect(first); err != nil {
		return r, err
	}
	rss, err := settledRSS()
	if err != nil {
		return r, err
	}
	goroutines, start := runtime.NumGoroutine(), time.Now()
	if err := connect(cfg.Count); err != nil {
		return r, err
	}
	r.Seconds = time.Since(start).Seconds()
	grown, err := settledRSS()
	if err != nil {
		return r, err
	}
	r.RSS = float64(grown-rss) / float64(cfg.Count)
	r.Goroutines = float64(runtime.NumGoroutine()-goroutines) / float64(cfg.Count)
	for _, c := range clients {
		if err := c.close(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// cpuTime is the user and system time of this process so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// settledRSS returns the resident bytes after garbage went back to the system.
func settledRSS() (int64, error) {
	// Twice: sync.Pool keeps its items for one more collection.
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return 0, fmt.Errorf("unexpected /proc/self/statm: %q", statm)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
