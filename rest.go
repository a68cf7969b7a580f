package mqtt

import (
	"context"
	"time"
)

const (
	// restLook is how often a wait for the next attempt looks whether the machine
	// slept: the timer of the wait stands still meanwhile.
	restLook = 2 * time.Second
	// longSleep is how long the machine must have slept for a backoff to be void.
	longSleep = 10 * time.Second
)

// rest waits for delay before the next attempt, or until it is asked for, and
// returns how long the machine slept meanwhile. Sleep counts towards the delay, and a
// long sleep ends it. It returns an error when the Conn is to end.
func (s *supervisor) rest(delay time.Duration) (slept time.Duration, err error) {
	c := s.c
	began, up := time.Now(), c.cfg.clock.uptime()
	timer := time.NewTimer(min(delay, restLook))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.nudge:
			return 0, nil
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		}
		passed := c.cfg.clock.uptime() - up // read first, so that it is never too much
		awake := time.Since(began)
		slept = max(0, passed-awake)
		left := delay - awake - slept
		if slept >= longSleep || left <= 0 {
			return slept, nil
		}
		timer.Reset(min(left, restLook))
	}
}
