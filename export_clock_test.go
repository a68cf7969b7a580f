package mqtt

import (
	"sync"
	"time"
)

// TestClock is the clock of a machine that the test puts to sleep, boots, and whose
// wall clock it sets. Besides that it follows the time of the bubble.
type TestClock struct {
	mu    sync.Mutex
	began time.Time     // when it booted
	slept time.Duration // since then
	wrong time.Duration // by how much the wall clock is ahead of the real time
	gone  time.Duration // real time that the bubble did not see
	boots byte
}

// NewTestClock is a machine that boots now, with a wall clock that is right.
func NewTestClock() *TestClock { return &TestClock{began: time.Now(), boots: 1} }

// Option makes a Conn go by c.
func (c *TestClock) Option() ConnectOption {
	return func(cfg *config) {
		cfg.clock = clock{uptime: c.uptime, wall: c.Wall, boot: func() bootID {
			c.mu.Lock()
			defer c.mu.Unlock()
			return bootID{c.boots}
		}}
	}
}

func (c *TestClock) uptime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.began) + c.slept
}

// Wall is the wall clock.
func (c *TestClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.gone + c.wrong)
}

// Sleep puts the machine to sleep.
func (c *TestClock) Sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
	c.gone += d
}

// Reboot boots the machine, which was off for a time.
func (c *TestClock) Reboot(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.slept = time.Now(), 0
	c.gone += off
	c.boots++
}

// Set sets the wall clock so that it is ahead of the real time.
func (c *TestClock) Set(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = ahead
}
