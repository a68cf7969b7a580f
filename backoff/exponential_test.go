package backoff_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/millrace/mqtt/backoff"
)

func TestExponentialBounds(t *testing.T) {
	const huge = time.Duration(math.MaxInt64)
	tests := []struct {
		name   string
		policy backoff.Exponential
		n      int
		want   time.Duration
	}{
		{"first", backoff.Exponential{}, 1, time.Second},
		{"second", backoff.Exponential{}, 2, 2 * time.Second},
		{"seventh", backoff.Exponential{}, 7, 64 * time.Second},
		{"capped", backoff.Exponential{}, 8, 120 * time.Second},
		{"far past the cap", backoff.Exponential{}, math.MaxInt, 120 * time.Second},
		{"below one counts as one", backoff.Exponential{}, -3, time.Second},
		{"base above max", backoff.Exponential{Base: time.Hour, Max: time.Minute}, 1, time.Minute},
		{"negative means default", backoff.Exponential{Base: -1, Max: -1}, 9, 120 * time.Second},
		{"factor", backoff.Exponential{Factor: 1.5}, 3, 2250 * time.Millisecond},
		{"constant", backoff.Exponential{Factor: 1}, math.MaxInt, time.Second},
		{"shrinking is refused", backoff.Exponential{Factor: 0.5}, 9, time.Second},
		{"negative factor", backoff.Exponential{Factor: -2}, 9, time.Second},
		{"not a number", backoff.Exponential{Factor: math.NaN()}, 9, time.Second},
		{"infinite factor", backoff.Exponential{Factor: math.Inf(1)}, 2, 120 * time.Second},
		{"no overflow", backoff.Exponential{Max: huge}, 5000, huge},
		{"largest base", backoff.Exponential{Base: huge, Max: huge}, 1, huge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			exact := tt.policy
			exact.NoJitter = true
			if d, ok := exact.Delay(backoff.Attempt{N: tt.n}); d != tt.want || !ok {
				t.Errorf("without jitter: got %v, %v; want %v, true", d, ok, tt.want)
			}
			for range 100 {
				if d, ok := tt.policy.Delay(backoff.Attempt{N: tt.n}); d < 0 || d > tt.want || !ok {
					t.Fatalf("with jitter: got %v, %v; want 0 to %v, true", d, ok, tt.want)
				}
			}
		})
	}
}

func TestExponentialDrawsUpToItsBound(t *testing.T) {
	policy := backoff.Exponential{Rand: func(n int64) int64 { return n - 1 }}
	if d, _ := policy.Delay(backoff.Attempt{N: 3}); d != 4*time.Second {
		t.Errorf("largest draw: got %v, want the bound 4s", d)
	}
	policy.Rand = func(int64) int64 { return 0 }
	if d, _ := policy.Delay(backoff.Attempt{N: 3}); d != 0 {
		t.Errorf("smallest draw: got %v, want 0", d)
	}
}

// A thousand clients are cut at once: they do not come back in a wave.
func TestDelaysSpreadOverTheJitterSpan(t *testing.T) {
	for n, span := range map[int]time.Duration{1: time.Second, 4: 8 * time.Second, 20: 120 * time.Second} {
		var tenths [10]int
		for _, d := range delays(42, 1000, n) {
			tenths[min(9, int(10*d/span))]++
		}
		for i, count := range tenths {
			if count < 60 || count > 140 { // 100 expected; 4 standard deviations
				t.Errorf("failure %d: %d of 1000 clients in tenth %d of %v: %v", n, count, i, span, tenths)
			}
		}
	}
}

func TestSeededDelaysAreRepeatable(t *testing.T) {
	if a, b := delays(7, 50, 3), delays(7, 50, 3); !slices.Equal(a, b) {
		t.Errorf("same seed, different delays:\n%v\n%v", a, b)
	}
	if a, b := delays(7, 50, 3), delays(8, 50, 3); slices.Equal(a, b) {
		t.Errorf("different seeds, same delays: %v", a)
	}
}

func TestPolicySeesTheAttemptAndMayStop(t *testing.T) {
	refused := errors.New("bad credentials")
	var policy backoff.Policy = backoff.PolicyFunc(func(a backoff.Attempt) (time.Duration, bool) {
		return a.Up * time.Duration(a.N), !errors.Is(a.Err, refused)
	})
	if d, ok := policy.Delay(backoff.Attempt{N: 2, Up: time.Second, Err: errors.New("reset")}); d != 2*time.Second || !ok {
		t.Errorf("got %v, %v; want 2s, true", d, ok)
	}
	if _, ok := policy.Delay(backoff.Attempt{N: 3, Err: refused}); ok {
		t.Error("the policy said stop, got go on")
	}
}

func delays(seed uint64, clients, n int) []time.Duration {
	random := rand.New(rand.NewPCG(seed, 0))
	policy := backoff.Exponential{Rand: random.Int64N}
	var all []time.Duration
	for range clients {
		d, _ := policy.Delay(backoff.Attempt{N: n})
		all = append(all, d)
	}
	return all
}
