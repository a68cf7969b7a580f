// Group commit: batches that are submitted while a transaction is being written
// wait for it and then share the next one. Who finds nobody writing leads: it
// carries out all batches that wait, its own the first of them, and hands the
// lead to the first of those that came meanwhile.

package bolt

import (
	"errors"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// maxGroup bounds the bytes of values in a transaction of several batches.
const maxGroup = 16 << 20

// request is a batch on its way, or upkeep of the session's.
type request struct {
	session *session
	ops     []store.Op
	upkeep  func(*bbolt.Tx) error // instead of ops
	size    int                   // bytes of values
	leaves  int                   // shares of the reserve, see bounds.go

	err  error     // read once done
	turn chan bool // true to take the lead, false when done
}

// submit has r carried out and returns its error.
func (s *Store) submit(r *request) error {
	if len(r.ops) == 0 && r.upkeep == nil {
		return r.session.check()
	}
	lead, err := s.enqueue(r)
	if err != nil {
		return err
	}
	if !lead {
		lead = <-r.turn
	}
	if lead {
		s.lead()
	}
	return r.err
}

// enqueue reports whether the caller must lead.
func (s *Store) enqueue(r *request) (lead bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || r.session.closed {
		return false, store.ErrClosed
	}
	r.turn = make(chan bool, 1)
	r.session.calls++
	s.queue = append(s.queue, r)
	lead = !s.leading
	s.leading = true
	return lead, nil
}

// lead carries out one group, whose first batch is the caller's.
func (s *Store) lead() {
	group := s.nextGroup()
	commits := s.carryOut(group)

	s.mu.Lock()
	s.stats.Commits += commits
	for _, r := range group {
		r.session.calls--
		switch {
		case r.err != nil:
			s.stats.Failures++
		case r.upkeep == nil:
			s.stats.Batches++
		}
	}
	s.leading = len(s.queue) > 0
	if s.leading {
		s.queue[0].turn <- true
	}
	s.idle.Broadcast()
	s.mu.Unlock()

	for _, r := range group[1:] {
		r.turn <- false
	}
}

// nextGroup takes what waits, within maxGroup.
func (s *Store) nextGroup() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 1, s.queue[0].size
	for n < len(s.queue) && size+s.queue[n].size <= maxGroup {
		size += s.queue[n].size
		n++
	}
	group := s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	return group
}

// carryOut sets the error of each request and returns the number of commits.
func (s *Store) carryOut(group []*request) (commits int64) {
	committed, err := s.transact(group)
	if err == nil || len(group) == 1 {
		if committed {
			commits = 1
		}
		return commits
	}
	// One batch may be too large for what is left, where the others are not.
	for i := range group {
		if committed, _ := s.transact(group[i : i+1]); committed {
			commits++
		}
	}
	return commits
}

// transact carries out group in one transaction and sets the errors. A request
// that is refused leaves the others alone; the error is that of the transaction.
func (s *Store) transact(group []*request) (committed bool, err error) {
	before := make(map[*session]usage)
	s.bound(group)
	left := s.toRelease()
	err = s.update(func(tx *bbolt.Tx) error {
		committed = false
		s.plan.begin(s, tx)
		for _, r := range group {
			if _, ok := before[r.session]; !ok {
				before[r.session] = r.session.usage
			}
			var refused *refusal
			switch r.err = s.plan.apply(r); {
			case r.err == nil:
				committed = true
			case errors.As(r.err, &refused):
				r.err = refused.error
			default:
				return r.err
			}
		}
		if !committed {
			return errUnchanged
		}
		_, err := release(tx, left)
		return err
	})
	s.plan.end()
	if err == nil {
		if committed {
			s.released(left)
		}
		return committed, nil
	}
	for sess, usage := range before {
		sess.usage = usage
	}
	for _, r := range group {
		r.err = err
	}
	return false, err
}

// refusal is the error of a batch that was not begun.
type refusal struct{ error }
