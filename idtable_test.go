package mqtt

import (
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

// nextFree equals the plain search for the next identifier that is not in use.
func TestIDTableNextFree(t *testing.T) {
	rng := chance.Rand(t)
	for _, top := range []uint16{1, 2, 7, 255, 256, 257, 1000, maxPacketID} {
		var table idTable[int]
		taken := map[uint16]bool{}
		last := uint16(0)
		for range 3000 {
			// Long runs fill pages, so that they are passed in one step.
			for range rng.IntN(1 + int(top)/8) {
				got, want := table.nextFree(last, top), nextFreePlain(taken, last, top)
				if got != want {
					t.Fatalf("top %d, %d taken: %d after %d, want %d", top, len(taken), got, last, want)
				}
				if got == 0 {
					break
				}
				taken[got], last = true, got
				table.set(got, new(int))
			}
			for range rng.IntN(1 + int(top)/8) {
				if id := uint16(rng.IntN(int(top) + 1)); taken[id] {
					delete(taken, id)
					table.clear(id)
				}
			}
			if table.n != len(taken) {
				t.Fatalf("%d entries, want %d", table.n, len(taken))
			}
			if top > 1000 && rng.IntN(20) == 0 {
				break
			}
		}
	}
}

func nextFreePlain(taken map[uint16]bool, last, top uint16) uint16 {
	for range int(top) {
		if last++; last == 0 || last > top {
			last = 1
		}
		if !taken[last] {
			return last
		}
	}
	return 0
}

func TestIDTableEachMayClear(t *testing.T) {
	var table idTable[uint16]
	table.each(func(*uint16) { t.Fatal("an empty table has an entry") })
	for id := uint16(1); id <= 1000; id++ {
		table.set(id, &id)
	}
	n := 0
	table.each(func(id *uint16) { n++; table.clear(*id) })
	if n != 1000 || table.n != 0 || table.get(7) != nil {
		t.Fatalf("saw %d, %d left", n, table.n)
	}
}
