// Checks on calls at the same time, and on a long life.

package storetest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/mqtt/store"
)

// manyOverwritesAndDeletes compares the session with a map over many random
// batches.
func manyOverwritesAndDeletes(t *testing.T, p *place) {
	const batches, keys = 300, 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	st := p.store(t)
	s := reopen(t, st)
	model := make(map[store.Key]string)
	for range batches {
		var ops []store.Op
		for range rnd.IntN(40) {
			k := key(store.Kind(rnd.IntN(3)), rnd.Uint64N(keys))
			if rnd.IntN(2) == 0 {
				ops = append(ops, store.Op{Key: k, Delete: true})
				delete(model, k)
				continue
			}
			value := string(numbered(rnd.Uint64(), rnd.IntN(400)))
			ops = append(ops, store.Op{Key: k, Body: []byte(value)})
			model[k] = value
		}
		commit(t, s, ops...)
	}
	closeSession(t, s)
	sorted := slices.SortedFunc(maps.Keys(model), func(a, b store.Key) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return int(a.Seq) - int(b.Seq)
	})
	want := make([]record, len(sorted))
	for i, k := range sorted {
		want[i] = record{k, model[k]}
	}
	holds(t, session(t, st), want...)
}

// commitBesideRead reads two records that are overwritten together all the time: Read
// sees the values of one batch, whole.
func commitBesideRead(t *testing.T, p *place) {
	const rounds = 200
	s := session(t, p.store(t))
	keys := []store.Key{key(store.Outgoing, 1), key(store.Exchange, 1)}
	pair := func(i uint64) []store.Op {
		value := string(numbered(i, 64+int(i)*37%5000))
		return []store.Op{{Key: keys[0], Body: []byte(value)}, {Key: keys[1], Body: []byte(value)}, put(store.Outgoing, i+2, value)}
	}
	commit(t, s, pair(0)...)
	done := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			var got [2]string
			if err := s.Read(keys, func(i int, value []byte) error { got[i] = string(value); return nil }); err != nil {
				t.Errorf("Read: %v", err)
				return
			}
			if len(got[0]) < 64 || got[0][:8] != got[0][8:16] || got[0] != got[1] {
				t.Errorf("Read sees %d and %d bytes of different batches, or half a value", len(got[0]), len(got[1]))
				return
			}
		}
	})
	for i := uint64(1); i < rounds; i++ {
		if err := s.Commit(append(pair(i), del(store.Outgoing, i+1))); err != nil {
			t.Errorf("Commit: %v", err)
			break
		}
	}
	close(done)
	readers.Wait()
}

// sessionsAtOnce commits to many sessions from a goroutine each.
func sessionsAtOnce(t *testing.T, p *place) {
	const sessions, batches = 8, 25
	st := p.store(t)
	var all sync.WaitGroup
	open := make([]store.Session, sessions)
	for i := range open {
		open[i] = session(t, st, fmt.Sprint(i))
		all.Go(func() {
			for j := range uint64(batches) {
				if err := open[i].Commit([]store.Op{put(store.Outgoing, j, fmt.Sprint(i)), put(store.Exchange, j, "")}); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	all.Wait()
	for i, s := range open {
		var want []record
		for j := range uint64(batches) {
			want = append(want, record{key(store.Outgoing, j), fmt.Sprint(i)})
		}
		for j := range uint64(batches) {
			want = append(want, record{key(store.Exchange, j), ""})
		}
		holds(t, s, want...)
	}
}

// batchesAreWhole replaces two records with one value, again and again, over
// changes of the session: they always agree.
func batchesAreWhole(t *testing.T, p *place) {
	st := p.store(t)
	s := reopen(t, st)
	for i := range uint64(50) {
		value := string(numbered(i, 10+int(i)*211))
		commit(t, s, put(store.Outgoing, 1, value), put(store.Exchange, 1, value))
		if i%10 == 0 {
			closeSession(t, s)
			s = reopen(t, st)
		}
		holds(t, s, record{key(store.Outgoing, 1), value}, record{key(store.Exchange, 1), value})
	}
	closeSession(t, s)
}
