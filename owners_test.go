package mqtt

import (
	"slices"
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

// The owners of a message equal a plain slice under random calls.
func TestOwnersModel(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(500) {
		rng := chance.Stream(seed, round)
		subs := make([]*owner, 1+rng.IntN(200))
		for i := range subs {
			subs[i] = &owner{joined: uint64(i)}
			if rng.IntN(10) == 0 {
				subs[i].joined, subs[i].placeholder = 0, true
			}
		}
		var o owners
		var want []*owner
		add := func(s *owner) {
			if !slices.Contains(want, s) {
				want = append(want, s)
			}
		}
		remove := func(s *owner) (had bool) {
			had = slices.Contains(want, s)
			want = slices.DeleteFunc(want, func(x *owner) bool { return x == s })
			return had
		}
		for range 300 {
			s, to := subs[rng.IntN(len(subs))], subs[rng.IntN(len(subs))]
			switch rng.IntN(8) {
			case 0, 1, 2:
				o.add(s)
				add(s)
			case 3, 4:
				if got, had := o.remove(s), remove(s); got != had {
					t.Fatalf("round %d: remove %v, want %v", round, got, had)
				}
			case 5:
				o.replace(s, to)
				if remove(s) {
					add(to)
				}
			case 6:
				if rng.IntN(20) == 0 {
					o.reset()
					some := subs[:rng.IntN(len(subs)+1)]
					o.set(some)
					want = slices.Clone(some)
				}
			}
			checkOwners(t, &o, want, s)
		}
	}
}

func checkOwners(t *testing.T, o *owners, want []*owner, s *owner) {
	t.Helper()
	got := o.all()
	if len(got) != len(want) || o.none() != (len(want) == 0) || o.has(s) != slices.Contains(want, s) {
		t.Fatalf("%d owners, none %v, has %v; want %d, has %v", len(got), o.none(), o.has(s), len(want), slices.Contains(want, s))
	}
	for i, x := range got {
		if !slices.Contains(want, x) || i > 0 && got[i-1].joined > x.joined {
			t.Fatalf("owner %d is wrong or out of order", x.joined)
		}
	}
	app := o.application()
	if some := slices.ContainsFunc(want, func(x *owner) bool { return !x.placeholder }); (app != nil) != some || app != nil && app.placeholder {
		t.Fatalf("application %v, want one: %v", app, some)
	}
}
