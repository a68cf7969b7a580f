// Bounds: what WithMaxFile leaves free in the file, so that a full one can be emptied.

package bolt

import (
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

const (
	minReserve = 256 << 10
	minStep    = 64 << 10
	growStep   = 16 << 20 // the file grows by at most so much at a time
)

// Of the reserve, in quarters, a batch must leave so much. Deletions leave nothing and
// have no bound: a store that refuses them stays full for ever.
const (
	leavesNote     = 2 // how far a message is: without it none is sent and deleted
	leavesArrived  = 3
	leavesOutgoing = 4
)

// leaves returns what a batch with op must leave.
func leaves(op *store.Op) int {
	switch {
	case op.Delete:
		return 0
	case op.Key.Kind == store.Outgoing:
		return leavesOutgoing
	case op.Key.Kind == store.Inbox:
		return leavesArrived
	}
	return leavesNote
}

func (c *config) reserve() int64 { return max(c.maxFile/8, minReserve) }

// kept is what must be left in bytes.
func (c *config) kept(leaves int) int64 { return c.reserve() * int64(leaves) / 4 }

// largest returns how long a record may be. bbolt puts up to four on a page, of
// whatever size, and where one is deleted and one is left, that one joins the next
// page: five are written anew, which is less than the half of the reserve that is
// for it.
func (c *config) largest() int64 {
	if c.maxFile == 0 {
		return bbolt.MaxValueSize - sumSize
	}
	return min(c.reserve()/16, bbolt.MaxValueSize-sumSize)
}

// bound tells bbolt how far the file may grow for group, and in which steps. What is
// kept lies above the pages of the file, in one piece: free ones among them may be
// too scattered for a page of large records, or for the list of free pages.
func (s *Store) bound(group []*request) {
	c, most := &s.config, 0
	for _, r := range group {
		most = max(most, r.leaves)
	}
	s.db.MaxSize, s.db.AllocSize = 0, c.growth()
	switch {
	case c.maxFile == 0:
	case most > 0:
		s.db.MaxSize = int(min(c.maxFile-c.kept(most), math.MaxInt)) // of 32 bits on some machines
	default:
		s.db.AllocSize = 0 // by what it needs
	}
}

// checkRoom admits growth more bytes if their batch leaves what it must. Where
// deletions found no room in one piece and took some of the reserve, twice as much
// must be free besides: else their next pages would find even less of it.
func (p *planner) checkRoom(growth int64, leaves int) error {
	c := &p.store.config
	if c.maxFile == 0 || growth == 0 {
		return nil
	}
	kept := c.kept(leaves)
	taken := min(max(0, p.tx.Size()-(c.maxFile-kept)), kept)
	if p.used+growth > c.maxFile-kept-2*taken {
		return fmt.Errorf("%w: the file %s may have %d bytes", store.ErrFull, p.store.path, c.maxFile)
	}
	p.used += growth
	return nil
}

// growth is how much the file grows at a time: little beside its bound.
func (c *config) growth() int {
	if c.maxFile == 0 {
		return growStep
	}
	return int(min(max(c.maxFile/64, minStep), growStep))
}
