package bolt_test

import (
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

var allKinds = []store.Kind{store.Meta, store.Outgoing, store.Exchange, store.Incoming, store.Inbox}

// comeAndGo has a client put a record of each kind, delete those of kinds, and leave.
func comeAndGo(t *testing.T, s *bolt.Store, clientID string, kinds ...store.Kind) {
	t.Helper()
	sess := session(t, s, clientID)
	for _, kind := range allKinds {
		commit(t, sess, put(kind, 1, []byte("a")))
	}
	for _, kind := range kinds {
		commit(t, sess, del(kind, 1))
	}
	if err := sess.Close(); err != nil {
		t.Fatal(err)
	}
}

// bucketsIn returns the names of the buckets in a file, which must not be open, but for
// that which every file has.
func bucketsIn(t *testing.T, path string) (names []string) {
	t.Helper()
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			if string(name) != "millrace" {
				names = append(names, string(name))
			}
			return nil
		})
	})
	return names
}

// What closed sessions have no records in leaves the file, with a commit of another
// session or as the Store is closed. What they have stays, if it is only what is known
// of the session as a whole.
func TestEmptySessionsAreReleased(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	for i := range 20 {
		comeAndGo(t, s, fmt.Sprint("gone ", i), allKinds...)
	}
	comeAndGo(t, s, "c", allKinds[1:]...)
	comeAndGo(t, s, "full")
	commit(t, session(t, s, "another"), put(store.Outgoing, 1, nil), put(store.Exchange, 1, nil))
	if got := bucketsIn(t, copied(t, path)); len(got) != 1+5+2 {
		t.Errorf("after a commit %d buckets stay: %q", len(got), got)
	}
	comeAndGo(t, s, "last", allKinds...)
	stays := session(t, s, "stays open")
	commit(t, stays, put(store.Inbox, 1, nil))
	commit(t, stays, del(store.Inbox, 1))
	closed(t, s)
	got := bucketsIn(t, path)
	if len(got) != 1+5+2 || !slices.Contains(got, string(recordsBucket(store.Meta))) {
		t.Errorf("%d buckets stay: %q", len(got), got)
	}
	s = open(t, path)
	if sound, bad := load(t, session(t, s, "c")); len(sound) != 1 || len(bad) != 0 {
		t.Errorf("%d sound and %d damaged records of kind meta, want 1", len(sound), len(bad))
	}
}

// A session that was closed, and opened again before it was released, has what was put
// since.
func TestReleasedSessionGoesOn(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	for i := range uint64(10) {
		sess := session(t, s, "c")
		if sound, _ := load(t, sess); len(sound) != int(i) {
			t.Fatalf("%d records, want %d", len(sound), i)
		}
		commit(t, sess, put(store.Outgoing, 100+i, nil), put(store.Exchange, i, nil), del(store.Exchange, i))
		commit(t, session(t, s, fmt.Sprint("another ", i)), put(store.Meta, 0, nil), del(store.Meta, 0))
		if err := sess.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A process that is killed leaves empty buckets. They go when the client comes and goes
// again.
func TestEmptySessionsOfAKilledProcess(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	comeAndGo(t, s, "c", allKinds...)
	left := copied(t, path)
	if got := bucketsIn(t, left); len(got) != len(allKinds) {
		t.Fatalf("%d buckets: %q", len(got), got)
	}
	s = open(t, left)
	if err := session(t, s, "c").Close(); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if got := bucketsIn(t, left); len(got) != 0 {
		t.Errorf("%d buckets stay: %q", len(got), got)
	}
}
