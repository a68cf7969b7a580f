package packetid

import (
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

// NextFree equals the plain search for the next identifier that is not in use.
func TestTableNextFree(t *testing.T) {
	rng := chance.Rand(t)
	for _, top := range []uint16{1, 2, 7, 255, 256, 257, 1000, 65535} {
		var table Table[int]
		taken := map[uint16]bool{}
		last := uint16(0)
		for range 3000 {
			// Long runs fill pages, so that they are passed in one step.
			for range rng.IntN(1 + int(top)/8) {
				got, want := table.NextFree(last, top), nextFreePlain(taken, last, top)
				if got != want {
					t.Fatalf("top %d, %d taken: %d after %d, want %d", top, len(taken), got, last, want)
				}
				if got == 0 {
					break
				}
				taken[got], last = true, got
				table.Set(got, new(int))
			}
			for range rng.IntN(1 + int(top)/8) {
				if id := uint16(rng.IntN(int(top) + 1)); taken[id] {
					delete(taken, id)
					table.Clear(id)
				}
			}
			if table.Len() != len(taken) {
				t.Fatalf("%d entries, want %d", table.Len(), len(taken))
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

func TestTableEachMayClear(t *testing.T) {
	var table Table[uint16]
	table.Each(func(*uint16) { t.Fatal("an empty table has an entry") })
	for id := uint16(1); id <= 1000; id++ {
		table.Set(id, &id)
	}
	n := 0
	table.Each(func(id *uint16) { n++; table.Clear(*id) })
	if n != 1000 || table.Len() != 0 || table.Get(7) != nil {
		t.Fatalf("saw %d, %d left", n, table.Len())
	}
}
