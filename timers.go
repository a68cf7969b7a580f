package mqtt

import (
	"sync"
	"time"
)

// timers run functions after a time, until they are stopped.
type timers struct {
	mu      sync.Mutex
	stopped bool
	waiting map[*time.Timer]struct{}
}

// after runs f after d, unless the timers are stopped before.
func (t *timers) after(d time.Duration, f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	if t.waiting == nil {
		t.waiting = map[*time.Timer]struct{}{}
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		t.mu.Lock()
		_, waits := t.waiting[timer]
		delete(t.waiting, timer)
		t.mu.Unlock()
		if waits {
			f()
		}
	})
	t.waiting[timer] = struct{}{}
}

// stop stops all of them, and those to come.
func (t *timers) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	for timer := range t.waiting {
		timer.Stop()
	}
	t.waiting = nil
}
