package bolt_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store/bolt"
)

// childRewrite opens the file, with compaction and salvage where they are due,
// between two lines.
func childRewrite() {
	fmt.Println("begin")
	s, err := bolt.Open(os.Args[1], bolt.WithCompaction(), bolt.WithSalvage())
	must(err)
	fmt.Println("done")
	must(s.Close())
}

// The process that makes, compacts or salvages a file is killed at random moments:
// the next one gets the lock and every record, and nothing is left beside the file.
func TestProcessKilledWhileRewriting(t *testing.T) {
	rnd := chance.Rand(t)
	for _, r := range rewritings(t) {
		t.Run(r.name, func(t *testing.T) {
			path := tempPath(t)
			r.start(t, path)
			took := killedRewriting(t, path, time.Minute)
			before, after, rounds := 0, 0, chance.Rounds(15, 500)
			for round := range rounds {
				r.start(t, path)
				// Now and then over what the last one left.
				for range 1 + rnd.IntN(2) {
					killedRewriting(t, path, time.Duration(rnd.Int64N(int64(took)*5/4+1)))
				}
				if r.finish(t, path) {
					after++
				} else {
					before++
				}
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			t.Logf("%d killed before the new file had its name, %d after; not killed it takes %v", before, after, took)
		})
	}
}

// killedRewriting runs the child and kills it so long after its begin, unless it
// is done before. It returns the time from begin to done.
func killedRewriting(t *testing.T, path string, after time.Duration) (took time.Duration) {
	t.Helper()
	cmd := child(t, "rewrite", path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	kill := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer kill.Stop()
	if _, err := lines.ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	took = time.Since(begin)
	cmd.Wait()
	return took
}
