// Memory: sessions that end with the process.

package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Memory is a [Store] in memory. It keeps what a Session held when that is
// closed, so that a later connection of the same client in the same process goes
// on where the last one was. Nothing outlives the process. The zero Memory is
// ready for use.
type Memory struct {
	// Limits is what one session may hold. It must not change once a Session was
	// opened.
	Limits Limits

	mu       sync.Mutex
	sessions map[string]*memoryRecords
}

// NewMemory returns a Memory without limits.
func NewMemory() *Memory { return new(Memory) }

// Session opens the session of clientID as [Store] says. Its only error is
// [ErrInUse].
func (m *Memory) Session(clientID string) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.sessions[clientID]
	if r == nil {
		if m.sessions == nil {
			m.sessions = make(map[string]*memoryRecords)
		}
		r = &memoryRecords{values: make(map[Key][]byte)}
		m.sessions[clientID] = r
	}
	s := &memorySession{limits: m.Limits, records: r}
	if !r.open(s) {
		return nil, fmt.Errorf("%w: the session of client %q", ErrInUse, clientID)
	}
	return s, nil
}

// memoryRecords is what a session holds. A value is never changed once it is in
// the map, so a reader may keep it beyond the lock.
type memoryRecords struct {
	mu     sync.Mutex
	owner  *memorySession // the open session, nil when there is none
	values map[Key][]byte
	used   Limits // by records of kind Outgoing
}

func (r *memoryRecords) open(s *memorySession) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner != nil {
		return false
	}
	r.owner = s
	return true
}

type memorySession struct {
	limits  Limits
	records *memoryRecords
}

// lock locks the records if the session is still open.
func (s *memorySession) lock() (*memoryRecords, error) {
	r := s.records
	r.mu.Lock()
	if r.owner != s {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	return r, nil
}

func (s *memorySession) Load(visit func(Entry) error) error {
	r, err := s.lock()
	if err != nil {
		return err
	}
	entries := make([]Entry, 0, len(r.values))
	for key, value := range r.values {
		entries = append(entries, Entry{Key: key, Value: value})
	}
	// visit may call the session.
	r.mu.Unlock()
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Key.Kind, b.Key.Kind), cmp.Compare(a.Key.Seq, b.Key.Seq))
	})
	for _, e := range entries {
		if err := visit(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *memorySession) Commit(ops []Op) error {
	r, err := s.lock()
	if err != nil {
		return err
	}
	defer r.mu.Unlock()
	staged := make(map[Key][]byte, len(ops)) // nil for a record to take out
	for _, op := range ops {
		if op.Delete {
			staged[op.Key] = nil
			continue
		}
		value := make([]byte, 0, len(op.Head)+len(op.Body)) // not nil, even empty
		staged[op.Key] = append(append(value, op.Head...), op.Body...)
	}
	used := r.after(staged)
	if used.over(r.used, s.limits) {
		return ErrFull
	}
	r.used = used
	maps.Copy(r.values, staged)
	for key, value := range staged {
		if value == nil {
			delete(r.values, key)
		}
	}
	return nil
}

// after returns what is used once staged is carried out.
func (r *memoryRecords) after(staged map[Key][]byte) Limits {
	used := r.used
	for key, value := range staged {
		if key.Kind != Outgoing {
			continue
		}
		if old, ok := r.values[key]; ok {
			used.Messages--
			used.Bytes -= int64(len(old))
		}
		if value != nil {
			used.Messages++
			used.Bytes += int64(len(value))
		}
	}
	return used
}

// over reports whether l exceeds limits in something that it has more of than
// before: a session above limits that were lowered can still be emptied.
func (l Limits) over(before, limits Limits) bool {
	return limits.Messages > 0 && l.Messages > max(before.Messages, limits.Messages) ||
		limits.Bytes > 0 && l.Bytes > max(before.Bytes, limits.Bytes)
}

func (s *memorySession) Read(keys []Key, visit func(i int, value []byte) error) error {
	r, err := s.lock()
	if err != nil {
		return err
	}
	values := make([][]byte, 0, len(keys))
	for _, key := range keys {
		value, ok := r.values[key]
		if !ok {
			err = fmt.Errorf("%w: %s", ErrNotFound, key)
			break
		}
		values = append(values, value)
	}
	r.mu.Unlock() // visit may call the session
	for i, value := range values {
		if err := visit(i, value[:len(value):len(value)]); err != nil {
			return err
		}
	}
	return err
}

func (s *memorySession) Limits() Limits { return s.limits }

func (s *memorySession) Close() error {
	r, err := s.lock()
	if err != nil {
		return err
	}
	r.owner = nil
	r.mu.Unlock()
	return nil
}
