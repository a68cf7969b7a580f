//go:build !linux

package sendqueue

// Taken is not known on this system.
func (q *Queue) Taken() (n uint64, ok bool) { return 0, false }

// End is not known on this system.
func (q *Queue) End() (n uint64, ok bool) { return 0, false }
