// The default policy: exponential growth to a cap, spread by full jitter.

package backoff

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	// DefaultBase is the first delay's upper bound. One second is long enough
	// for a restarting process to listen again.
	DefaultBase = time.Second
	// DefaultMax caps the delay. Two minutes keeps thousands of clients from
	// keeping a struggling server down, and still bounds the outage seen.
	DefaultMax = 120 * time.Second
	// DefaultFactor is the growth for each further failure.
	DefaultFactor = 2
)

// Exponential waits at most Base after the first failure and Factor times
// longer after each further one, never more than Max. With jitter, the
// default, the delay is drawn uniformly from zero to that bound ("full
// jitter"): clients cut at the same moment come back spread over the whole
// span, not in a wave. It never stops by itself.
//
// The zero value is ready to use. It is safe for concurrent use if Rand is.
type Exponential struct {
	// Base bounds the first delay. Zero or less means [DefaultBase].
	Base time.Duration
	// Max bounds every delay, Base included. Zero or less means [DefaultMax].
	Max time.Duration
	// Factor is the growth per failure. Zero means [DefaultFactor]; anything
	// else below 1, NaN included, means 1: a constant bound.
	Factor float64
	// NoJitter makes each delay exactly its bound.
	NoJitter bool
	// Rand returns a uniform number in [0, n), n > 0. Nil means the process's
	// random source; tests give a seeded one.
	Rand func(n int64) int64
}

// Delay implements [Policy]; ok is always true. An a.N below 1 counts as 1.
func (e Exponential) Delay(a Attempt) (d time.Duration, ok bool) {
	bound := e.bound(a.N)
	if e.NoJitter {
		return bound, true
	}
	draw := e.Rand
	if draw == nil {
		draw = rand.Int64N
	}
	// The span includes the bound itself, unless n would overflow.
	n := int64(bound)
	if n < math.MaxInt64 {
		n++
	}
	return time.Duration(draw(n)), true
}

// bound computes in floating point because the power reaches +Inf where
// integers would wrap to a short or negative delay.
func (e Exponential) bound(n int) time.Duration {
	base, limit := positive(e.Base, DefaultBase), positive(e.Max, DefaultMax)
	grown := float64(base) * math.Pow(e.factor(), float64(max(n, 1)-1))
	if grown >= float64(limit) {
		return limit
	}
	return time.Duration(grown)
}

func (e Exponential) factor() float64 {
	switch {
	case e.Factor == 0:
		return DefaultFactor
	case e.Factor >= 1:
		return e.Factor
	default:
		return 1
	}
}

func positive(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
