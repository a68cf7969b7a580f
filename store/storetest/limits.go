// Checks on limits: a batch that exceeds one changes nothing.

package storetest

import (
	"errors"
	"testing"

	"github.com/millrace/mqtt/store"
)

// full checks that ops are refused with ErrFull and that nothing changed.
func full(t *testing.T, s store.Session, ops ...store.Op) {
	t.Helper()
	before := contents(t, s)
	if err := s.Commit(ops); !errors.Is(err, store.ErrFull) {
		t.Fatalf("Commit: %v, want ErrFull", err)
	}
	holds(t, s, before...)
}

func limitMessages(t *testing.T, p *place) {
	limits := store.Limits{Messages: 3}
	st := p.limited(t, limits)
	s := reopen(t, st)
	if got := s.Limits(); got != limits {
		t.Errorf("Limits: %+v, want %+v", got, limits)
	}
	commit(t, s, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "b"))
	full(t, s, put(store.Outgoing, 3, "c"), put(store.Outgoing, 4, "d"))
	commit(t, s, put(store.Outgoing, 3, "c"))
	full(t, s, put(store.Outgoing, 4, "d"))
	closeSession(t, s)
	s = session(t, st) // the count is that of the records, not of the life of a Session
	full(t, s, put(store.Outgoing, 4, "d"))
	commit(t, s, put(store.Outgoing, 3, "cc")) // overwriting takes no more room
	commit(t, s, del(store.Outgoing, 1))
	commit(t, s, put(store.Outgoing, 4, "d"))
	full(t, s, put(store.Outgoing, 5, "e"))
	commit(t, s, del(store.Outgoing, 1), del(store.Outgoing, 9)) // neither is there
	full(t, s, put(store.Outgoing, 5, "e"))
	commit(t, s, del(store.Outgoing, 4), put(store.Outgoing, 1, "a")) // numbers need not grow
	commit(t, s, del(store.Outgoing, 3))
	commit(t, s, put(store.Outgoing, 5, "e"))
	full(t, s, put(store.Outgoing, 6, "f"))
}

func limitBytes(t *testing.T, p *place) {
	limits := store.Limits{Bytes: 10}
	st := p.limited(t, limits)
	s := reopen(t, st)
	if got := s.Limits(); got != limits {
		t.Errorf("Limits: %+v, want %+v", got, limits)
	}
	commit(t, s, store.Op{Key: key(store.Outgoing, 1), Head: []byte("12"), Body: []byte("345")})
	full(t, s, put(store.Outgoing, 2, "123456"))
	commit(t, s, put(store.Outgoing, 2, "12345"))
	full(t, s, put(store.Outgoing, 3, "1"))
	full(t, s, put(store.Outgoing, 1, "123456"))
	commit(t, s, put(store.Outgoing, 1, ""), put(store.Outgoing, 3, "1234"))
	full(t, s, put(store.Outgoing, 1, "12"))
	closeSession(t, s)
	s = session(t, st)
	full(t, s, put(store.Outgoing, 1, "12"))
	commit(t, s, put(store.Outgoing, 1, "1"))
}

func limitCountsTheWholeBatch(t *testing.T, p *place) {
	s := session(t, p.limited(t, store.Limits{Messages: 1, Bytes: 4}))
	commit(t, s, put(store.Outgoing, 1, "1234"))
	commit(t, s, put(store.Outgoing, 2, "5678"), del(store.Outgoing, 1))
	commit(t, s, del(store.Outgoing, 2), put(store.Outgoing, 3, "abcd"))
	full(t, s, put(store.Outgoing, 4, ""), del(store.Outgoing, 3), put(store.Outgoing, 3, ""))
	full(t, s, put(store.Exchange, 1, "state"), put(store.Outgoing, 4, ""))
	commit(t, s, put(store.Outgoing, 3, "ab"), put(store.Outgoing, 3, "abcd"), put(store.Outgoing, 3, "abc"))
	holds(t, s, record{key(store.Outgoing, 3), "abc"})
}

func limitLeavesOthersAlone(t *testing.T, p *place) {
	st := p.limited(t, store.Limits{Messages: 1, Bytes: 1})
	s := session(t, st)
	commit(t, s, put(store.Outgoing, 1, "a"))
	// Other kinds have no limit: what is owed for a message must go on.
	commit(t, s, put(store.Exchange, 1, "long"), put(store.Incoming, 1, "long"), put(store.Inbox, 1, "long"), put(store.Meta, 1, "long"))
	// Nor has another session.
	commit(t, session(t, st, "other"), put(store.Outgoing, 1, "a"))
}
