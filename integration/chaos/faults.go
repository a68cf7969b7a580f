package chaos

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/millrace/mqtt/integration/broker"
)

// between draws a duration.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// disturb cuts and stalls the links of a proxy until ctx ends.
func (p *proxy) disturb(ctx context.Context, rng *rand.Rand) {
	for pause(ctx, between(rng, 200*time.Millisecond, 4*time.Second)) {
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

// disturb kills the process again and again until ctx ends, and leaves it
// running. A process that ends by itself is an error. at is the proxy that the
// process connects through.
func (p *process) disturb(ctx context.Context, rng *rand.Rand, at *proxy) error {
	for most := 2 * time.Second; ; most = 8 * time.Second { // the first within a short run
		timer := time.NewTimer(between(rng, 500*time.Millisecond, most))
		select {
		case <-timer.C:
		case <-p.ended:
			return p.failure()
		case <-ctx.Done():
			return nil
		}
		if rng.IntN(2) == 0 {
			// What it says last dies with it, as it does with a machine.
			at.mute(time.Second)
			pause(ctx, between(rng, 0, 300*time.Millisecond))
			p.kill()
			at.each((*link).reset)
		} else {
			p.kill()
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
	b := r.broker
	for pause(ctx, between(rng, 4*time.Second, 20*time.Second)) {
		for r.proxies[0].sheltering() && pause(ctx, pollEvery) {
		}
		b.Stop(tb) // by SIGTERM: it saves what it has
		pause(ctx, between(rng, 0, time.Second))
		b.Restart(tb)
		restarts++
	}
	return restarts
}
