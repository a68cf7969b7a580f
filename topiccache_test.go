package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
)

// topicOf is a topic of 38 bytes.
func topicOf(i int) []byte { return fmt.Appendf(nil, "plant/7/line/%08d/sensor/temperature", i) }

// fillTopics names n topics once each.
func fillTopics(t *topicTable, r *routes, from, n int) {
	for i := range n {
		name := topicOf(from + i)
		e := t.get(name)
		if e == nil {
			e = t.put(name)
		}
		t.refresh(e, r)
	}
}

func oneFilter(tb testing.TB) *Conn {
	cfg := defaults()
	c := newConn(context.Background(), &cfg)
	s := newSubscription(c.up, []Filter{{Pattern: "plant/#"}}, newSubOptions(nil))
	if err := c.routes.add(s); err != nil {
		tb.Fatal(err)
	}
	return c
}

// heapOf returns how much the heap grows by f.
func heapOf(f func()) int {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int(after.HeapAlloc) - int(before.HeapAlloc)
}

// A table holds 100,000 topics in its 16 MiB, and a million topics take no more; it counts
// no less than two thirds of the heap that it takes.
func TestTopicTableKeepsToItsBytes(t *testing.T) {
	c := oneFilter(t)
	table := &topicTable{seed: maphash.MakeSeed()}
	most := 1_000_000
	if testing.Short() {
		most = 200_000
	}
	for _, n := range []int{1_000, 100_000, most} {
		var held *topicTable
		heap := heapOf(func() {
			held = &topicTable{seed: table.seed}
			fillTopics(held, c.routes, 0, n)
		})
		if n <= 100_000 && len(held.m) != n {
			t.Errorf("%d of %d topics are kept", len(held.m), n)
		}
		if held.bytes > topicBytes || heap > topicBytes || heap > held.bytes*3/2 {
			t.Errorf("%d topics: %d bytes counted, %d held", n, held.bytes, heap)
		}
		t.Logf("%d topics: %d kept, %d bytes counted, %d held", n, len(held.m), held.bytes, heap)
		runtime.KeepAlive(held)
	}
}

// Topics that messages name again and again stay in the table while others pass through.
func TestHotTopicsStayInTheTable(t *testing.T) {
	c := oneFilter(t)
	table := &topicTable{seed: maphash.MakeSeed()}
	const hot = 1_000
	fillTopics(table, c.routes, 0, hot)
	for round := range 300 {
		fillTopics(table, c.routes, 1_000_000+round*hot, hot)
		for i := range hot {
			if table.get(topicOf(i)) == nil {
				t.Fatalf("topic %d is gone after %d others", i, (round+1)*hot)
			}
		}
	}
}

// What a table counts is the sum of its entries, also when the routes change.
func TestTopicTableCounts(t *testing.T) {
	c := oneFilter(t)
	table := &topicTable{seed: maphash.MakeSeed()}
	check := func(when string) {
		t.Helper()
		sum := 0
		for _, e := range table.m {
			sum += e.size()
		}
		if sum != table.bytes || len(table.ring) != len(table.m) {
			t.Fatalf("%s: %d counted, %d in %d entries, %d in the ring", when, table.bytes, sum, len(table.m), len(table.ring))
		}
	}
	fillTopics(table, c.routes, 0, 2_000)
	check("one filter")
	s := newSubscription(c.up, []Filter{{Pattern: "plant/+/line/#"}}, newSubOptions(nil))
	if err := c.routes.add(s); err != nil {
		t.Fatal(err)
	}
	fillTopics(table, c.routes, 1_000, 200_000)
	check("two filters")
	c.routes.remove(s)
	fillTopics(table, c.routes, 2_000, 10_000)
	check("one filter again")
}

// A message on each of many topics in turn.
func BenchmarkTopics(b *testing.B) {
	for _, topics := range []int{1, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			c := oneFilter(b)
			s := c.routes.subscriptions()[0]
			ch := s.C()
			r := &reader{l: &link{session: &c.session, sender: sender{no: 1, version: V311}, socket: socket{began: time.Now()}, framer: codec.NewFramer(V311, 0)}}
			r.topics = c.topicsOf(false)
			reads := [][]byte{{}} // of as many messages as the channel takes
			for i := range topics {
				last := len(reads) - 1
				if i%200 == 199 {
					reads, last = append(reads, nil), last+1
				}
				reads[last] = codec.AppendPublish(reads[last], V311, &codec.Publish{Topic: string(topicOf(i * 7919 % topics)), Payload: make([]byte, 64)})
			}
			pass := func() (n int) {
				for _, read := range reads {
					for in := bytes.NewReader(read); in.Len() > 0; {
						if _, err := r.l.framer.Fill(in); err != nil {
							b.Fatal(err)
						}
						if err := r.handleAll(); err != nil {
							b.Fatal(err)
						}
					}
					for ; len(ch) > 0; n++ {
						<-ch
					}
				}
				return n
			}
			pass() // the first message of a topic makes its entry
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; {
				n += pass()
			}
		})
	}
}
