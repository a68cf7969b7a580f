package mqtt_test

import (
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/testhook"
)

// testClock is the clock of a machine that the test puts to sleep, boots, and whose
// wall clock it sets. Besides that it follows the time of the bubble.
type testClock struct {
	mu    sync.Mutex
	began time.Time     // when it booted
	slept time.Duration // since then
	wrong time.Duration // by how much the wall clock is ahead of the real time
	gone  time.Duration // real time that the bubble did not see
	boots byte
}

// newTestClock is a machine that boots now, with a wall clock that is right.
func newTestClock() *testClock { return &testClock{began: time.Now(), boots: 1} }

// option makes a Conn go by c.
func (c *testClock) option() mqtt.ConnectOption {
	return testhook.WithClock(testhook.Clock{Uptime: c.uptime, Wall: c.wall, Boot: c.boot}).(mqtt.ConnectOption)
}

func (c *testClock) boot() [16]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return [16]byte{c.boots}
}

func (c *testClock) uptime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.began) + c.slept
}

// wall is the wall clock.
func (c *testClock) wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.gone + c.wrong)
}

// sleep puts the machine to sleep.
func (c *testClock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
	c.gone += d
}

// reboot boots the machine, which was off for a time.
func (c *testClock) reboot(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began, c.slept = time.Now(), 0
	c.gone += off
	c.boots++
}

// set sets the wall clock so that it is ahead of the real time.
func (c *testClock) set(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = ahead
}
