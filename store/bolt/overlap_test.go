package bolt_test

import (
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// Several openers at once find a file that each of them would make, compact or
// salvage: the one that gets it keeps what it commits, the others are told that it is in use.
func TestOpenAtOnce(t *testing.T) {
	for _, r := range rewritings(t) {
		t.Run(r.name, func(t *testing.T) {
			path, got := tempPath(t), 0
			for round := range chance.Rounds(20, 500) {
				r.start(t, path)
				var mu sync.Mutex
				var all sync.WaitGroup
				want := maps.Clone(r.want)
				if want == nil {
					want = make(map[store.Key]string)
				}
				for i := range uint64(4) {
					all.Go(func() {
						key := store.Key{Kind: store.Meta, Seq: i}
						err := commitOnce(path, r.option, put(key.Kind, key.Seq, nil))
						if err != nil && !errors.Is(err, store.ErrInUse) {
							t.Errorf("opener %d: %v, want nil or ErrInUse", i, err)
						}
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							want[key] = ""
							got++
						}
					})
				}
				all.Wait()
				after := r
				after.want = want
				after.finish(t, path)
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			t.Logf("%d openers got the file", got)
		})
	}
}

// commitOnce opens the file at path, commits one op for client c and closes it.
func commitOnce(path string, option bolt.Option, op store.Op) error {
	s, err := bolt.Open(path, option, bolt.WithLockTimeout(5*time.Millisecond))
	if err != nil {
		return err
	}
	sess, err := s.Session("c")
	if err == nil {
		err = sess.Commit([]store.Op{op})
	}
	return errors.Join(err, s.Close())
}
