package chaos

import "testing"

func TestJudge(t *testing.T) {
	in := func(incarnation int, numbers ...int) (s []sight) {
		for _, n := range numbers {
			s = append(s, sight{n, incarnation})
		}
		return s
	}
	for _, c := range []struct {
		name             string
		promised, sights []sight
		anew             []sight
		lost, doubled    int // doubled: not by the broker
		reorder, again   int
		taken            int
	}{
		{"in order", in(1, 1, 2), append(in(1, 1, 2), in(1, endMark)...), nil, 0, 0, 0, 0, 0},
		{"not promised, and arrived", in(1, 1), in(1, 1, 2), nil, 0, 0, 0, 0, 0},
		{"lost", in(1, 1, 2, 3), in(1, 1, 3), nil, 1, 0, 0, 0, 0},
		{"doubled", in(1, 1, 2), in(1, 1, 2, 1), nil, 0, 1, 0, 0, 0},
		{"doubled by the broker", in(1, 1, 2), in(1, 1, 2, 1), in(1, 1), 0, 0, 0, 0, 0},
		{"doubled once by the broker", in(1, 1, 2), in(1, 1, 2, 1, 1), in(1, 1), 0, 1, 0, 0, 0},
		{"again after a kill", in(1, 1, 2), append(in(1, 1, 2), in(2, 2)...), nil, 0, 0, 0, 1, 0},
		{"again after a kill and a graceful end", in(1, 1, 2), append(append(in(1, 1, 2), in(2, 2)...), in(3, 2)...), nil, 0, 0, 0, 2, 1},
		{"again and doubled", in(1, 1), append(in(1, 1), in(2, 1, 1)...), nil, 0, 1, 0, 1, 0},
		{"out of order", in(1, 1, 2, 3), in(1, 1, 3, 2), nil, 0, 0, 1, 0, 0},
		{"out of order over a kill", in(1, 1, 2), append(in(1, 2), in(2, 1)...), nil, 0, 0, 1, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := judge(c.promised, c.sights, unless(c.anew), nothing, settledBy(in(2, 1, 2), nil, c.promised))
			if len(got.missing) != c.lost || got.doubled-got.byBroker != c.doubled || got.reorder != c.reorder || got.again != c.again || got.taken != c.taken {
				t.Errorf("%+v", got)
			}
		})
	}
}
