package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// fillFile puts records of a kind, of 1 to size bytes, until not a single one fits, and
// returns their keys.
func fillFile(t *testing.T, sess store.Session, kind store.Kind, size func() int) (keys []store.Key) {
	t.Helper()
	next := uint64(0)
	for batch := 64; batch > 0; {
		var ops []store.Op
		for bytes := 0; len(ops) < batch && bytes < 30_000; bytes += len(ops[len(ops)-1].Body) {
			ops = append(ops, put(kind, next+uint64(len(ops)), make([]byte, size())))
		}
		err := sess.Commit(ops)
		switch {
		case errors.Is(err, store.ErrFull):
			batch /= 4
			continue
		case err != nil:
			t.Fatalf("Commit: %v", err)
		}
		for _, op := range ops {
			keys = append(keys, op.Key)
		}
		next += uint64(len(ops))
	}
	return keys
}

// A file is filled with messages to send, then with arrived ones, and with notes, as
// far as it goes. Each of them can be deleted, in any order, also after a new start.
func TestFullFileCanBeEmptied(t *testing.T) {
	rnd := chance.Rand(t)
	for range chance.Rounds(2, 60) {
		limit := int64(1<<20 + rnd.IntN(2<<20))
		size := []int{100, 3000, int(max(limit/128, 16<<10))}[rnd.IntN(3)]
		path := tempPath(t)
		s := open(t, path, bolt.WithMaxFile(limit))
		sess := session(t, s, "c")
		var keys []store.Key
		for _, kind := range []store.Kind{store.Outgoing, store.Inbox, store.Exchange} {
			added := fillFile(t, sess, kind, func() int { return 1 + rnd.IntN(size) })
			if len(added) == 0 {
				t.Errorf("no room for a record of kind %s", kind)
			}
			keys = append(keys, added...)
		}
		if info, err := os.Stat(path); err != nil || info.Size() > limit {
			t.Errorf("%d bytes, %v; want %d at most", info.Size(), err, limit)
		}
		rnd.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		for i, key := range keys {
			if i == 10 {
				closed(t, s)
				s = open(t, path, bolt.WithMaxFile(limit))
				sess = session(t, s, "c")
			}
			var ops []store.Op
			for _, key := range keys[i:] {
				if ops = append(ops, del(key.Kind, key.Seq)); i < 30 {
					break // one by one, then the rest at once
				}
			}
			if err := sess.Commit(ops); err != nil {
				t.Fatalf("limit %d, values of up to %d bytes: deletion %d of %d, %s: %v", limit, size, i, len(keys), key, err)
			}
			if len(ops) > 1 {
				break
			}
		}
		if sound, bad := load(t, sess); len(sound)+len(bad) > 0 {
			t.Errorf("%d records stay", len(sound))
		}
	}
}

// A queue as long as the file allows is sent in its order, with a note for each
// message in flight, while more messages are refused or find room.
func TestFullFileDrains(t *testing.T) {
	const limit, size, window, steps = 2 << 20, 16 << 10, 20, 100
	rnd := chance.Rand(t)
	s := open(t, tempPath(t), bolt.WithMaxFile(limit))
	sess := session(t, s, "c")
	next := uint64(len(fillFile(t, sess, store.Outgoing, func() int { return 1 + rnd.IntN(size) })))
	fillFile(t, sess, store.Inbox, func() int { return 1000 })
	sent, first := uint64(0), uint64(0)
	for range steps {
		for ; sent < next && sent < first+window; sent++ {
			commit(t, sess, put(store.Exchange, sent, make([]byte, 12)))
		}
		commit(t, sess, del(store.Outgoing, first), del(store.Exchange, first))
		first++
		switch err := sess.Commit([]store.Op{put(store.Outgoing, next, make([]byte, 1+rnd.IntN(size)))}); {
		case err == nil:
			next++
		case !errors.Is(err, store.ErrFull):
			t.Fatalf("Commit: %v", err)
		}
	}
	if info, err := os.Stat(s.Path()); err != nil || info.Size() > limit {
		t.Errorf("%d bytes, %v; want %d at most", info.Size(), err, limit)
	}
}

// A record that could not be deleted from a full file for sure is refused.
func TestRecordTooLargeForTheFile(t *testing.T) {
	for limit, largest := range map[int64]int{1 << 20: 16 << 10, 8 << 20: 64 << 10} {
		s := open(t, tempPath(t), bolt.WithMaxFile(limit))
		sess := session(t, s, "c")
		for _, kind := range []store.Kind{store.Meta, store.Outgoing, store.Inbox} {
			commit(t, sess, put(kind, 1, make([]byte, largest)))
			err := sess.Commit([]store.Op{put(kind, 2, make([]byte, largest+1))})
			e, ok := errors.AsType[*bolt.SizeError](err)
			if !ok || !errors.Is(err, store.ErrFull) || e.Largest != int64(largest) || e.Size != int64(largest)+1 || e.Key.Seq != 2 || e.Path != s.Path() {
				t.Errorf("limit %d: %v, want a SizeError", limit, err)
			}
		}
	}
}

// A file from before it had a bound, with records that the bound does not allow,
// takes no more, and can be emptied.
func TestFileAboveItsBound(t *testing.T) {
	const records = 10
	path := tempPath(t)
	s := open(t, path)
	sess := session(t, s, "c")
	for i := range uint64(records) {
		commit(t, sess, put(store.Outgoing, i, make([]byte, 300_000)))
	}
	closed(t, s)
	sess = session(t, open(t, path, bolt.WithMaxFile(1<<20)), "c")
	for i := range uint64(records) {
		commit(t, sess, del(store.Outgoing, (i*7)%records))
	}
	commit(t, sess, put(store.Outgoing, 1, []byte("there is room again")))
}

// Some sessions fill the file while others delete: sessions that delete are not
// refused along with those that fill it.
func TestFullFileRefusesOnlySessionsThatFillIt(t *testing.T) {
	s := open(t, tempPath(t), bolt.WithMaxFile(1<<20))
	sess := session(t, s, "c")
	keys := fillFile(t, sess, store.Outgoing, func() int { return 2000 })
	done := make(chan struct{})
	failed := make(chan error, 1)
	filler := session(t, s, "filler")
	go func() {
		for n := uint64(0); ; n++ {
			select {
			case <-done:
				failed <- nil
				return
			default:
			}
			if err := filler.Commit([]store.Op{put(store.Outgoing, n, make([]byte, 2000))}); err != nil && !errors.Is(err, store.ErrFull) {
				failed <- fmt.Errorf("Commit: %w, want ErrFull", err)
				return
			}
		}
	}()
	for _, key := range keys[:50] {
		commit(t, sess, put(store.Exchange, key.Seq, []byte("sent")))
		commit(t, sess, del(key.Kind, key.Seq), del(store.Exchange, key.Seq))
	}
	close(done)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
