package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// benchPath is on the disk of the working directory, as a temporary directory may
// be in memory; MILLRACE_BENCH_DIR names another one.
func benchPath(b *testing.B) string {
	parent := os.Getenv("MILLRACE_BENCH_DIR")
	if parent == "" {
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "sessions.db")
}

// BenchmarkFlush is what the disk takes to append 4 KiB and flush it.
func BenchmarkFlush(b *testing.B) {
	f, err := os.Create(benchPath(b))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	for i := int64(0); b.Loop(); i++ {
		if _, err := f.WriteAt(page, i%256*4096); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// queueOps is message n of a durable queue that holds 1,000: in with its
// exchange, and out with an old one's.
func queueOps(ops []store.Op, n uint64, value []byte) []store.Op {
	ops = append(ops, put(store.Outgoing, n, value), put(store.Exchange, n, value[:8]))
	if n >= 1000 {
		ops = append(ops, del(store.Outgoing, n-1000), del(store.Exchange, n-1000))
	}
	return ops
}

// BenchmarkCommit puts records of 100 bytes, and runs them through a queue, in
// batches of so many records.
func BenchmarkCommit(b *testing.B) {
	value := make([]byte, 100)
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint("put/", size), func(b *testing.B) {
			benchCommit(b, func(ops []store.Op, n uint64) []store.Op {
				for i := range uint64(size) {
					ops = append(ops, put(store.Outgoing, n*uint64(size)+i, value))
				}
				return ops
			})
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "records/s")
		})
		b.Run(fmt.Sprint("queue/", size), func(b *testing.B) {
			benchCommit(b, func(ops []store.Op, n uint64) []store.Op {
				for i := range uint64(size) {
					ops = queueOps(ops, n*uint64(size)+i, value)
				}
				return ops
			})
			b.ReportMetric(float64(size*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func benchCommit(b *testing.B, next func(ops []store.Op, n uint64) []store.Op) {
	s := open(b, benchPath(b))
	sess := session(b, s, "c")
	var ops []store.Op
	b.ReportAllocs()
	n := uint64(0)
	for b.Loop() {
		ops = next(ops[:0], n)
		commit(b, sess, ops...)
		n++
	}
}

// BenchmarkCallers commits one message at a time from many goroutines.
func BenchmarkCallers(b *testing.B) {
	value := make([]byte, 100)
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := open(b, benchPath(b))
			var all sync.WaitGroup
			for i := range callers {
				sess := session(b, s, fmt.Sprint(i))
				all.Go(func() {
					for n := range uint64(b.N) {
						if err := sess.Commit(queueOps(nil, n, value)); err != nil {
							b.Error(err)
						}
					}
				})
			}
			all.Wait()
			st := s.Stats()
			b.ReportMetric(float64(st.Batches)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(st.Batches)/float64(st.Commits), "batches/commit")
		})
	}
}

// BenchmarkOpen opens a file of 200,000 messages of 100 bytes and loads them.
func BenchmarkOpen(b *testing.B) {
	path := benchPath(b)
	s := open(b, path)
	fill(b, s, 200_000)
	closed(b, s)
	info, _ := os.Stat(path)
	var opening time.Duration
	for b.Loop() {
		start := time.Now()
		s, err := bolt.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		opening += time.Since(start)
		sess := session(b, s, "c")
		if err := sess.Load(func(store.Entry) error { return nil }); err != nil {
			b.Fatal(err)
		}
		closed(b, s)
	}
	b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "ms/Open")
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}

func fill(b *testing.B, s *bolt.Store, n uint64) {
	sess := session(b, s, "c")
	var ops []store.Op
	for i := range n {
		if ops = append(ops, put(store.Outgoing, i, make([]byte, 100))); len(ops) == 1000 {
			commit(b, sess, ops...)
			ops = ops[:0]
		}
	}
	commit(b, sess, ops...)
}
