// Store: the open file, its sessions, and the end of both.

package bolt

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
)

// Store is a [store.Store] in a file. Its methods may be called from any
// goroutine. It starts none.
type Store struct {
	path     string
	config   config
	db       *bbolt.DB
	file     *os.File // db's
	salvaged *Salvage
	told     atomic.Bool // what salvaged is

	uncompacted error

	broken atomic.Pointer[uncertain] // set once, by the leader
	plan   planner                   // owned by the leader, see commit.go

	closing sync.Once

	mu       sync.Mutex
	idle     sync.Cond // a leader is done
	closed   bool
	sessions map[string]*session // the open ones
	left     map[string]struct{} // prefixes of the closed ones, see release.go
	leading  bool
	queue    []*request
	stats    Stats
}

var _ store.Store = (*Store)(nil)

// Session opens the session of clientID, as [store.Store] says. It reads how much
// is in it.
func (s *Store) Session(clientID string) (store.Session, error) {
	sess := newSession(s, clientID)
	if err := s.register(clientID, sess); err != nil {
		return nil, err
	}
	if err := s.view(sess.count); err != nil {
		s.unregister(clientID)
		return nil, err
	}
	return sess, nil
}

func (s *Store) register(clientID string, sess *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	if s.sessions[clientID] != nil {
		return fmt.Errorf("%w: the session of client %q in %s", store.ErrInUse, clientID, s.path)
	}
	s.sessions[clientID] = sess
	return nil
}

func (s *Store) unregister(clientID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, clientID)
}

// Close waits for the commits in progress and closes the file and all sessions. A
// second call waits for the first and does nothing.
func (s *Store) Close() (err error) {
	s.closing.Do(func() { err = s.close() })
	return err
}

func (s *Store) close() error {
	s.closeSessions()
	s.tidy()
	if s.broken.Load() != nil {
		// A transaction that ended in a panic may hold bbolt's locks, so Close would
		// hang. Only the mapping stays behind.
		return errors.Join(unlock(s.file), s.file.Close())
	}
	// It waits for those who read, who may call Stats meanwhile: not under mu.
	return s.config.explained(s.path, guard(s.path, s.db.Close))
}

func (s *Store) closeSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.leading {
		s.idle.Wait()
	}
	for _, sess := range s.sessions {
		sess.closed = true
		s.left[string(sess.prefix)] = struct{}{}
	}
	clear(s.sessions)
}

// tidy carries out what was left for the end. Should it fail, that is there the next
// time, and does no harm.
func (s *Store) tidy() {
	s.bound(nil)
	left, told := s.toRelease(), s.salvaged != nil && s.told.Load()
	if len(left) == 0 && !told {
		return
	}
	s.update(func(tx *bbolt.Tx) error {
		changed, err := release(tx, left)
		switch {
		case err != nil:
			return err
		case told:
			return forgetNote(tx)
		case !changed:
			return errUnchanged
		}
		return nil
	})
}

// Stats counts what a Store did since it was opened.
type Stats struct {
	Commits  int64 // transactions on disk: two flushes each, three where the file grew
	Batches  int64 // calls of Commit that succeeded, with something to do
	Failures int64 // calls of Commit that failed
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Path returns the path of the file, symbolic links resolved.
func (s *Store) Path() string { return s.path }
