package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millrace/mqtt/integration/broker"
)

// between draws a duration.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// slowLines makes the lines of a proxy slow again and again until ctx ends, for up to
// longest. A slow line is not cut: it is to be seen that it lives.
func (p *proxy) slowLines(ctx context.Context, rng *rand.Rand, longest time.Duration) {
	for longest >= leastSlow && pause(ctx, between(rng, longest/2, 2*longest)) {
		d := between(rng, longest/4, longest)
		p.slow(d)
		pause(ctx, d)
	}
}

// slowest is how long a line may be slow in a run of d: 90 s in a run of some minutes.
func slowest(d time.Duration) time.Duration { return min(90*time.Second, d/3) }

// leastSlow is the shortest slowest for which lines are slow at all: less shows
// nothing, and keeps a short run from the other faults.
const leastSlow = 2 * time.Second

// disturb cuts and stalls the links of a proxy until ctx ends.
func (p *proxy) disturb(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, between(rng, 200*time.Millisecond, 4*time.Second)) {
		if p.isSlow() {
			continue
		}
		switch rng.IntN(4) {
		case 0, 1:
			p.cut(false)
		case 2:
			p.cut(true)
		case 3:
			// From a moment to longer than both sides are patient.
			p.stall(between(rng, 50*time.Millisecond, 5*time.Second))
		}
	}
}

// disturb kills the process or has it leave, again and again until ctx ends, and
// leaves it running. A process that ends by itself is an error. at is the proxy that
// the process connects through, steady what a restart of the broker holds.
func (p *process) disturb(ctx context.Context, rng *rand.Rand, at *proxy, steady *sync.RWMutex) error {
	for most := 2 * time.Second; ; most = 8 * time.Second { // the first within a short run
		timer := time.NewTimer(between(rng, 500*time.Millisecond, most))
		select {
		case <-timer.C:
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			return nil
		}
		for at.isSlow() && pause(ctx, pollEvery) {
		}
		switch rng.IntN(4) {
		case 0, 1:
			way := waysToLeave[rng.IntN(len(waysToLeave))]
			steady.RLock()
			err := p.leave(way, at)
			steady.RUnlock()
			if err != nil {
				return err
			}
		case 2:
			// What it says last dies with it, as it does with a machine.
			at.mute(time.Second)
			pause(ctx, between(rng, 0, 300*time.Millisecond))
			p.kill()
			at.each((*link).reset)
			p.killed++
		case 3:
			p.kill()
			p.killed++
		}
		pause(ctx, between(rng, 0, time.Second))
		if err := p.start(); err != nil {
			return err
		}
	}
}

// disturbBroker stops and starts the broker until ctx ends, and leaves it
// running. It is called on the goroutine that may call tb.Fatalf.
func (r *run) disturbBroker(ctx context.Context, tb broker.TB, rng *rand.Rand) (restarts int) {
	for pause(ctx, between(rng, 4*time.Second, 20*time.Second)) {
		for r.needBroker() && pause(ctx, pollEvery) {
		}
		r.restart(ctx, tb, rng)
		restarts++
	}
	return restarts
}

// needBroker reports whether a link is not to end now.
func (r *run) needBroker() bool {
	return r.proxies[0].sheltering() || r.proxies[0].isSlow() || r.proxies[1].isSlow()
}

// restart restarts the broker, but not while a process leaves, and returns when the
// watcher has a link again.
func (r *run) restart(ctx context.Context, tb broker.TB, rng *rand.Rand) {
	r.steady.Lock()
	defer r.steady.Unlock()
	r.broker.Stop(tb) // by SIGTERM: it saves what it has
	pause(ctx, between(rng, 0, time.Second))
	r.broker.Restart(tb)
	ready, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.wills.ready(ready); err != nil {
		tb.Fatalf("the watcher of wills: %v", err)
	}
}
