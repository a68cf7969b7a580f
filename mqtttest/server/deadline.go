package server

import "time"

// A deadline is one of the two of a [Conn]; guarded by its Link's mutex.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set replaces the deadline; wake runs, without the mutex, when it passes.
func (d *deadline) set(t time.Time, wake func()) {
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, wake)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// wake lets all goroutines that wait in the Link look again. It takes the mutex so that none
// misses it between its look and its wait.
func (l *Link) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cond.Broadcast()
}

// waitAtMost waits for a change, and for no longer than d when d is positive. The caller holds mu.
func (l *Link) waitAtMost(d time.Duration) {
	if d <= 0 {
		l.cond.Wait()
		return
	}
	t := time.AfterFunc(d, l.wake)
	l.cond.Wait()
	t.Stop()
}
