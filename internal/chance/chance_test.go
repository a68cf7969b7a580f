package chance_test

import (
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

func TestSeedIsReplayed(t *testing.T) {
	t.Setenv("MILLRACE_SEED", "")
	seed := chance.Seed(t)
	if again := chance.Seed(t); again == seed {
		t.Errorf("%d twice, want a new seed for each run", seed)
	}
	t.Setenv("MILLRACE_SEED", "18446744073709551615")
	if seed := chance.Seed(t); seed != 1<<64-1 {
		t.Errorf("got the seed %d", seed)
	}
	if a, b := chance.Rand(t).Uint64(), chance.Stream(1<<64-1, 0).Uint64(); a != b {
		t.Errorf("one seed gave %d and %d", a, b)
	}
}

func TestRounds(t *testing.T) {
	few := 3
	if testing.Short() {
		few = 1
	}
	for env, want := range map[string]int{"": few, "1": 7} {
		t.Setenv("MILLRACE_LONG", env)
		if n := chance.Rounds(3, 7); n != want {
			t.Errorf("MILLRACE_LONG=%q: %d rounds", env, n)
		}
		if n := chance.Amount(few, 7); n != want {
			t.Errorf("MILLRACE_LONG=%q: an amount of %d", env, n)
		}
	}
}
