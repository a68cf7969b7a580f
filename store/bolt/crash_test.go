package bolt_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

const (
	crashSessions = 3
	crashBatch    = 8  // messages in a batch
	crashOpen     = 10 // batches that stay in the store
)

// childCommit commits from several sessions at once until it is killed. Before
// each batch it says "begin S N", after it "done S N".
func childCommit() {
	s, err := bolt.Open(os.Args[1])
	must(err)
	var mu sync.Mutex
	say := func(what string, session int, n uint64) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, session, n)
	}
	var all sync.WaitGroup
	for i := range crashSessions {
		sess, err := s.Session(fmt.Sprint(i))
		must(err)
		first, err := strconv.ParseUint(os.Args[2+i], 10, 64)
		must(err)
		all.Go(func() {
			for n := first; ; n++ {
				say("begin", i, n)
				must(sess.Commit(crashOps(n)))
				say("done", i, n)
			}
		})
	}
	all.Wait()
}

// crashOps is batch n: its messages, and away with those of an old one.
func crashOps(n uint64) []store.Op {
	var ops []store.Op
	for seq := n * crashBatch; seq < (n+1)*crashBatch; seq++ {
		out := store.Key{Kind: store.Outgoing, Seq: seq}
		ops = append(ops, put(out.Kind, seq, content(out, int(seq*31%300))), put(store.Exchange, seq, nil))
		if n >= crashOpen {
			ops = append(ops, del(store.Outgoing, seq-crashOpen*crashBatch), del(store.Exchange, seq-crashOpen*crashBatch))
		}
	}
	return ops
}

// The committing process is killed at random moments: every batch that was
// reported is there, none is there in part.
func TestProcessKilledWhileCommitting(t *testing.T) {
	rnd, path := chance.Rand(t), tempPath(t)
	var done [crashSessions]uint64 // batches known to be there
	total := uint64(0)
	for round := range chance.Rounds(5, 50) {
		args := []string{path}
		for _, n := range done {
			args = append(args, fmt.Sprint(n))
		}
		cmd := child(t, "commit", args...)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer
		begun := done
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if kill == nil { // it is in progress
				kill = time.AfterFunc(time.Duration(rnd.IntN(200_000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
			var what string
			var session int
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &what, &session, &n); err != nil {
				t.Fatalf("round %d: %q: %v", round, lines.Text(), err)
			}
			if what == "done" {
				done[session] = n + 1
			} else {
				begun[session] = n + 1
			}
		}
		cmd.Wait()
		s := open(t, path)
		for i := range done {
			sound, bad := load(t, session(t, s, fmt.Sprint(i)))
			if len(bad) != 0 {
				t.Fatalf("round %d: damaged: %v", round, bad)
			}
			switch {
			case hasBatches(sound, done[i]):
			case begun[i] > done[i] && hasBatches(sound, begun[i]):
				done[i] = begun[i] // the report was what the kill cut off
			default:
				t.Fatalf("round %d: session %d: %d records, not those of %d batches", round, i, len(sound), done[i])
			}
		}
		closed(t, s)
	}
	for _, n := range done {
		total += n
	}
	t.Logf("%d batches", total)
}

// hasBatches reports whether sound is what n batches leave.
func hasBatches(sound map[store.Key]string, n uint64) bool {
	first := uint64(0)
	if n > crashOpen {
		first = n - crashOpen
	}
	if len(sound) != int(n-first)*crashBatch*2 {
		return false
	}
	for seq := first * crashBatch; seq < n*crashBatch; seq++ {
		out := store.Key{Kind: store.Outgoing, Seq: seq}
		if value, ok := sound[out]; !ok || value != string(content(out, int(seq*31%300))) {
			return false
		}
		if _, ok := sound[store.Key{Kind: store.Exchange, Seq: seq}]; !ok {
			return false
		}
	}
	return true
}

// fillDisk commits until the disk is full, then checks that nothing is lost,
// makes room and goes on. It is shared by the ways to have a full disk.
func fillDisk(s *bolt.Store, full error, makeRoom func() error) error {
	sess, err := s.Session("c")
	if err != nil {
		return err
	}
	next := uint64(0)
	step := func() error {
		key := store.Key{Kind: store.Outgoing, Seq: next}
		return sess.Commit([]store.Op{put(key.Kind, key.Seq, content(key, 20_000))})
	}
	check := func() error {
		n := uint64(0)
		err := sess.Load(func(e store.Entry) error {
			if e.Err != nil || e.Key.Seq != n || string(e.Value) != string(content(e.Key, 20_000)) {
				return fmt.Errorf("record %s, %v, where %d should be", e.Key, e.Err, n)
			}
			n++
			return nil
		})
		if err == nil && n != next {
			err = fmt.Errorf("%d records of %d", n, next)
		}
		return err
	}
	for err = step(); err == nil; err = step() {
		next++
	}
	if !errors.Is(err, full) || next == 0 {
		return fmt.Errorf("after %d records: %w, want %w", next, err, full)
	}
	for range 3 { // it stays an error, and only that
		if err := step(); !errors.Is(err, full) {
			return fmt.Errorf("again: %w, want %w", err, full)
		}
		if err := check(); err != nil {
			return err
		}
	}
	if err := makeRoom(); err != nil {
		return err
	}
	for range 20 {
		if err := step(); err != nil {
			return fmt.Errorf("with room again: %w", err)
		}
		next++
	}
	return check()
}
