// Checks on sessions: one owner each, apart from each other, kept over Close.

package storetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/millrace/mqtt/store"
)

func closeSession(t *testing.T, s store.Session) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func secondSessionInUse(t *testing.T, p *place) {
	st := p.store(t)
	s := reopen(t, st)
	for range 2 {
		if _, err := st.Session(clientID(t)); !errors.Is(err, store.ErrInUse) {
			t.Fatalf("a second Session: %v, want ErrInUse", err)
		}
	}
	commit(t, s, put(store.Outgoing, 1, "a")) // the first one goes on
	closeSession(t, s)
	holds(t, session(t, st), record{key(store.Outgoing, 1), "a"})
}

func clientsApart(t *testing.T, p *place) {
	st := p.store(t)
	a, b := session(t, st), session(t, st, "b")
	commit(t, a, put(store.Outgoing, 1, "a"), put(store.Outgoing, 2, "a"))
	commit(t, b, put(store.Outgoing, 2, "b"), put(store.Inbox, 3, "b"))
	commit(t, a, del(store.Inbox, 3), put(store.Outgoing, 2, "aa"))
	holds(t, a, record{key(store.Outgoing, 1), "a"}, record{key(store.Outgoing, 2), "aa"})
	holds(t, b, record{key(store.Outgoing, 2), "b"}, record{key(store.Inbox, 3), "b"})
}

// A client identifier is any UTF-8 string of up to 65,535 bytes
// [MQTT-3.1.3-5]; a store must not take one for a path, or cut it.
func oddClientIDs(t *testing.T, p *place) {
	st := p.store(t)
	long := strings.Repeat("x", 65_534)
	ids := []string{"", ".", "..", "../up", "a/b", `a\b`, "a\x00b", "a\x00", "a", "A", " a", "\xff", "ü", "CON", long + "1", long + "2", "x"}
	var open []store.Session
	for _, id := range ids {
		s, err := st.Session(id)
		if err != nil {
			t.Fatalf("Session(%.20q): %v", id, err)
		}
		defer s.Close()
		commit(t, s, put(store.Outgoing, 1, id))
		open = append(open, s)
	}
	for i, id := range ids {
		holds(t, open[i], record{key(store.Outgoing, 1), id})
		commit(t, open[i], del(store.Outgoing, 1))
	}
}

func closedSession(t *testing.T, p *place) {
	st := p.store(t)
	s := reopen(t, st)
	commit(t, s, put(store.Outgoing, 1, "a"))
	closeSession(t, s)
	next := session(t, st)
	visited := errors.New("visited")
	for name, err := range map[string]error{
		"Load":   s.Load(func(store.Entry) error { return visited }),
		"Commit": s.Commit([]store.Op{put(store.Outgoing, 2, "b")}),
		"Read":   s.Read([]store.Key{key(store.Outgoing, 1)}, func(int, []byte) error { return visited }),
		"Close":  s.Close(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	// Nor did the second Close let go of what the next one holds.
	if _, err := st.Session(clientID(t)); !errors.Is(err, store.ErrInUse) {
		t.Errorf("Session: %v, want ErrInUse", err)
	}
	holds(t, next, record{key(store.Outgoing, 1), "a"})
}

func closeKeepsRecords(t *testing.T, p *place) {
	st := p.store(t)
	want := record{key(store.Outgoing, 1), "a"}
	for range 3 {
		s := reopen(t, st)
		commit(t, s, put(store.Outgoing, 1, "a"))
		closeSession(t, s)
	}
	holds(t, session(t, st), want)
}

// A session of one record keeps it, of whatever kind that is.
func closeKeepsAnyKind(t *testing.T, p *place) {
	st := p.store(t)
	for _, kind := range []store.Kind{store.Meta, store.Outgoing, store.Exchange, store.Incoming, store.Inbox, 77} {
		s := reopen(t, st, kind.String())
		commit(t, s, put(kind, 1, "a"), put(store.Outgoing, 2, "b"))
		commit(t, s, del(store.Outgoing, 2))
		closeSession(t, s)
		holds(t, session(t, st, kind.String()), record{key(kind, 1), "a"})
	}
}

func reopenKeepsRecords(t *testing.T, p *place) {
	var want []record
	for i := range uint64(4) {
		st := p.open(t)
		s := reopen(t, st)
		holds(t, s, want...)
		commit(t, s, put(store.Outgoing, i, "a"), put(store.Incoming, 0, "b"), del(store.Incoming, 0))
		want = append(want, record{key(store.Outgoing, i), "a"})
		closeSession(t, s)
		closeStore(t, st)
	}
}
