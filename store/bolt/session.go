// session: the records of one client.

package bolt

import (
	"bytes"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

type session struct {
	store    *Store
	clientID string
	prefix   []byte

	// Guarded by store.mu.
	closed bool
	calls  int // commits in progress

	usage // owned by the leader once the session is open
}

// usage is what is known of the records of kind Outgoing.
type usage struct {
	used store.Limits
	top  uint64 // no record has a number above
}

func newSession(s *Store, clientID string) *session {
	return &session{store: s, clientID: clientID, prefix: bucketPrefix(clientID)}
}

// name returns the name of the bucket of kind.
func (s *session) name(kind store.Kind) []byte {
	return append(s.prefix[:len(s.prefix):len(s.prefix)], byte(kind))
}

// count finds used and top.
func (s *session) count(tx *bbolt.Tx) error {
	b := tx.Bucket(s.name(store.Outgoing))
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, stored []byte) error {
		s.used.Messages++
		s.used.Bytes += valueSize(stored)
		s.top = max(s.top, seqOf(key))
		return nil
	})
}

func (s *session) Limits() store.Limits { return s.store.config.limits }

func (s *session) Commit(ops []store.Op) error {
	r := &request{session: s, ops: ops}
	for i := range ops {
		r.size += len(ops[i].Head) + len(ops[i].Body)
		r.leaves = max(r.leaves, leaves(&ops[i]))
	}
	return s.store.submit(r)
}

func (s *session) Close() error {
	st := s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.closed = true
	// The next session of this client counts records: commits must not go on then.
	for s.calls > 0 {
		st.idle.Wait()
	}
	delete(st.sessions, s.clientID)
	st.left[string(s.prefix)] = struct{}{}
	return nil
}

// check returns ErrClosed when the session is closed, and the error of a Store that
// must be opened again.
func (s *session) check() error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if s.closed || s.store.closed {
		return store.ErrClosed
	}
	if broken := s.store.broken.Load(); broken != nil {
		return broken
	}
	return nil
}

// kinds returns those of which there are records, in order.
func (s *session) kinds() (kinds []store.Kind, err error) {
	err = s.store.view(func(tx *bbolt.Tx) error {
		c := tx.Cursor()
		for name, _ := c.Seek(s.prefix); bytes.HasPrefix(name, s.prefix); name, _ = c.Next() {
			if len(name) == len(s.prefix)+1 {
				kinds = append(kinds, store.Kind(name[len(s.prefix)]))
			}
		}
		return nil
	})
	return kinds, err
}
