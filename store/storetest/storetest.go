// Run: the list of checks and the place they work in.

package storetest

import (
	"fmt"
	"io"
	"testing"

	"github.com/millrace/mqtt/store"
)

// Options says what Run may ask of the store.
type Options struct {
	// OpenLimited opens a store whose sessions have these limits, empty and in a
	// place of its own for each call. Without it limits are not checked.
	OpenLimited func(t *testing.T, limits store.Limits) store.Store
	// Records is how many small records the largest session gets, 100,000 when it
	// is 0.
	Records int
}

// Run checks the store that open opens. open is called several times and gives
// the same place each time: what one Store committed, the next one has. A Store
// that is an [io.Closer] is closed before the next call. The checks keep apart by
// client identifiers that begin with the name of the test.
func Run(t *testing.T, open func(t *testing.T) store.Store, opts Options) {
	if opts.Records == 0 {
		opts.Records = 100_000
	}
	p := &place{open: open, opts: opts}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, p) })
	}
}

var checks = [...]struct {
	name string
	run  func(t *testing.T, p *place)
}{
	{"NewSessionIsEmpty", newSessionIsEmpty},
	{"LoadOrder", loadOrder},
	{"LoadEndsWithVisitsError", loadEndsWithVisitsError},
	{"LoadLetsVisitCommit", loadLetsVisitCommit},
	{"LoadLetsVisitRead", loadLetsVisitRead},
	{"DeleteAbsent", deleteAbsent},
	{"OpsInOrder", opsInOrder},
	{"OverwriteChangesSize", overwriteChangesSize},
	{"HeadAndBody", headAndBody},
	{"CommitKeepsNoSlices", commitKeepsNoSlices},
	{"EmptyBatch", emptyBatch},
	{"EmptyValue", emptyValue},
	{"LargeBatch", largeBatch},
	{"LargeValue", largeValue},
	{"AnyKey", anyKey},
	{"ReadOrder", readOrder},
	{"ReadNotFound", readNotFound},
	{"ReadEndsWithVisitsError", readEndsWithVisitsError},
	{"ValuesHaveNoRoom", valuesHaveNoRoom},
	{"SecondSessionInUse", secondSessionInUse},
	{"ClientsApart", clientsApart},
	{"OddClientIDs", oddClientIDs},
	{"ClosedSession", closedSession},
	{"CloseKeepsRecords", closeKeepsRecords},
	{"CloseKeepsAnyKind", closeKeepsAnyKind},
	{"ReopenKeepsRecords", reopenKeepsRecords},
	{"ManyRecords", manyRecords},
	{"ManyOverwritesAndDeletes", manyOverwritesAndDeletes},
	{"CommitBesideRead", commitBesideRead},
	{"SessionsAtOnce", sessionsAtOnce},
	{"BatchesAreWhole", batchesAreWhole},
	{"LimitMessages", limitMessages},
	{"LimitBytes", limitBytes},
	{"LimitCountsTheWholeBatch", limitCountsTheWholeBatch},
	{"LimitLeavesOthersAlone", limitLeavesOthersAlone},
}

// place is where the store under test keeps its sessions.
type place struct {
	open func(t *testing.T) store.Store
	opts Options
}

// store opens the store for the rest of the test.
func (p *place) store(t *testing.T) store.Store {
	t.Helper()
	s := p.open(t)
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

// limited opens an empty store with limits, or skips.
func (p *place) limited(t *testing.T, limits store.Limits) store.Store {
	t.Helper()
	if p.opts.OpenLimited == nil {
		t.Skip("Options.OpenLimited is not set")
	}
	s := p.opts.OpenLimited(t, limits)
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t *testing.T, s store.Store) {
	t.Helper()
	if c, ok := s.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("Close of the store: %v", err)
		}
	}
}

// session opens a session of the test's own for the rest of the test.
func session(t *testing.T, s store.Store, suffix ...string) store.Session {
	t.Helper()
	sess := reopen(t, s, suffix...)
	t.Cleanup(func() { sess.Close() })
	return sess
}

// reopen opens the session and leaves its Close to the test.
func reopen(t *testing.T, s store.Store, suffix ...string) store.Session {
	t.Helper()
	sess, err := s.Session(clientID(t, suffix...))
	if err != nil {
		t.Fatalf("Session: %v", err)
	}
	return sess
}

func clientID(t *testing.T, suffix ...string) string { return fmt.Sprint(t.Name(), suffix) }
