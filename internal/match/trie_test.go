package match

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

func TestTrieMatches(t *testing.T) {
	var all Trie[string]
	for _, c := range matchCases {
		var one Trie[string]
		one.Insert(c.filter, "v")
		if got := len(one.Match(c.topic, nil)) == 1; got != c.want {
			t.Errorf("%q takes %q: %v, want %v", c.filter, c.topic, got, c.want)
		}
		all.Insert(c.filter, c.filter)
	}
	for _, c := range matchCases {
		if got := slices.Contains(all.Match(c.topic, nil), c.filter); got != c.want {
			t.Errorf("among all: %q takes %q: %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestTrieShared(t *testing.T) {
	var r Trie[string]
	filters := []string{"$share/g/a/+/c", "$share/h/a/+/c", "a/b/c", "$queue/a/#", "$exclusive/a/b/c", "$share/g/#"}
	for _, f := range filters {
		r.Insert(f, f)
	}
	wantMatch(t, &r, "a/b/c", filters...)
	wantMatch(t, &r, "$share/g/a/b/c")
	wantMatch(t, &r, "$SYS/x")
	if !r.Remove("$share/g/a/+/c", "$share/g/a/+/c") {
		t.Error("a shared filter is not found under its full name")
	}
	wantMatch(t, &r, "a/b/c", filters[1:]...)
	for _, f := range filters[1:] {
		r.Remove(f, f)
	}
	wantEmpty(t, &r)
}

// Each copy a broker sends is matched against all: one value under several
// filters is found once for each, and the caller decides what that means.
func TestTrieMatchesOncePerFilter(t *testing.T) {
	var r Trie[int]
	for _, f := range []string{"a/#", "a/+", "a/b"} {
		r.Insert(f, 1)
	}
	r.Insert("a/b", 2)
	wantMatch(t, &r, "a/b", 1, 1, 1, 2)
	r.Remove("a/+", 1)
	wantMatch(t, &r, "a/b", 1, 1, 2)
	wantMatch(t, &r, "a/c", 1)
}

func TestTrieRemove(t *testing.T) {
	var r Trie[int]
	r.Insert("a/b", 1)
	r.Insert("a/b", 1)
	r.Insert("a/b/c", 2)
	for _, c := range []struct {
		filter string
		v      int
	}{{"a/b", 2}, {"a", 1}, {"a/b/c", 1}, {"a/b/c/d", 2}, {"a/+", 1}, {"a/#", 1}, {"#", 1}, {"x/y", 1}, {"", 1}} {
		gen := r.generation()
		if r.Remove(c.filter, c.v) || r.generation() != gen || r.len() != 3 {
			t.Errorf("remove(%q, %d) took something away", c.filter, c.v)
		}
	}
	for left := 2; left >= 0; left-- {
		filter, v := "a/b", 1
		if left == 0 {
			filter, v = "a/b/c", 2
		}
		gen := r.generation()
		if !r.Remove(filter, v) || r.generation() == gen || r.len() != left {
			t.Errorf("remove(%q, %d): %d registrations left, want %d", filter, v, r.len(), left)
		}
	}
	wantEmpty(t, &r)
}

func TestTriePrunes(t *testing.T) {
	var r Trie[int]
	r.Insert("a/b/c/d", 1)
	r.Insert("a/b", 2)
	r.Insert("a/+/c/#", 3)
	if got := r.nodes(); got != 7 {
		t.Errorf("%d nodes, want 7", got)
	}
	r.Remove("a/b/c/d", 1)
	if got := r.nodes(); got != 5 {
		t.Errorf("%d nodes after the longest is gone, want 5", got)
	}
	r.Remove("a/b", 2)
	r.Remove("a/+/c/#", 3)
	wantEmpty(t, &r)
}

// A node changes from slice to map and back; no child may get lost on the way.
func TestTrieFanout(t *testing.T) {
	var r Trie[int]
	const children = 4 * fewChildren
	name := func(i int) string { return fmt.Sprintf("a/%d/x", i) }
	check := func(from, to int) {
		t.Helper()
		for i := range children {
			if got := r.Match(name(i), nil); (len(got) == 1) != (from <= i && i < to) {
				t.Fatalf("children %d to %d: %d gives %v", from, to, i, got)
			}
		}
	}
	for round := range 2 {
		for i := range children {
			r.Insert(name(i), round)
			check(0, i+1)
		}
		for i := range children {
			r.Remove(name(i), round)
			check(i+1, children)
		}
		wantEmpty(t, &r)
	}
}

func TestTrieDeep(t *testing.T) {
	var r Trie[int]
	const depth = 32767 // of one byte each these levels fill the 65,535 bytes of a topic
	topic := strings.Repeat("a/", depth) + "a"
	r.Insert(strings.Repeat("+/", depth)+"+", 1)
	r.Insert(topic, 2)
	r.Insert(strings.Repeat("/", 65535), 3)
	wantMatch(t, &r, topic, 1, 2)
	wantMatch(t, &r, strings.Repeat("/", 65535), 3)
	r.Remove(strings.Repeat("+/", depth)+"+", 1)
	r.Remove(topic, 2)
	r.Remove(strings.Repeat("/", 65535), 3)
	wantEmpty(t, &r)
}

// TestTrieRandom and FuzzTrie drive the trie and a list of filters with
// the same steps.
func TestTrieRandom(t *testing.T) {
	rng := chance.Rand(t)
	for range 200 {
		data := make([]byte, 40+rng.IntN(400))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		trieSteps(t, data)
	}
}

func FuzzTrie(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06"))
	f.Add([]byte("\x02\x01\x06\x00\x01\x01\x81\x00\x02\x03\x04\x40\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2048 {
			t.Skip()
		}
		trieSteps(t, data)
	})
}

type registration struct {
	filter string
	v      int
}

// trieSteps reads steps from data: the two high bits of a byte say what
// to do and the two low ones over how many levels, which follow a byte each.
func trieSteps(t *testing.T, data []byte) {
	var r Trie[int]
	var model []registration
	gen := r.generation()
	changed := func() {
		if r.generation() == gen {
			t.Fatal("the generation stands still")
		}
		gen = r.generation()
	}
	for len(data) > 0 {
		head := data[0]
		levels := min(int(head&3)+1, len(data)-1)
		body := data[1 : 1+levels]
		data = data[1+levels:]
		switch head >> 6 {
		case 0, 1:
			filter := filterFrom(body)
			if filter == "" {
				continue
			}
			reg := registration{filter, int(head >> 2 & 3)}
			model = append(model, reg)
			r.Insert([]string{"", "$share/g/", "$queue/", "$exclusive/"}[head>>4&3]+filter, reg.v)
			changed()
		case 2:
			if len(model) == 0 {
				continue
			}
			i := int(head>>2&15) % len(model)
			if !r.Remove(model[i].filter, model[i].v) {
				t.Fatalf("remove(%q, %d) = false", model[i].filter, model[i].v)
			}
			model = slices.Delete(model, i, i+1)
			changed()
		case 3:
			reg := registration{filterFrom(body), int(head >> 2 & 3)}
			i := slices.Index(model, reg)
			if got := r.Remove(reg.filter, reg.v); got != (i >= 0) {
				t.Fatalf("remove(%q, %d) = %v", reg.filter, reg.v, got)
			}
			if i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
		}
		gen = r.generation()
		if topic := topicFrom(body); topic != "" {
			sameAsModel(t, &r, model, topic)
		}
	}
	for _, topic := range fewTopics {
		sameAsModel(t, &r, model, topic)
	}
	for i, reg := range model {
		r.Remove(reg.filter, reg.v)
		sameAsModel(t, &r, model[i+1:], fewTopics[i%len(fewTopics)])
	}
	wantEmpty(t, &r)
}

var fewTopics = allTopics(3)

func sameAsModel(t *testing.T, r *Trie[int], model []registration, topic string) {
	t.Helper()
	var want []int
	nodes := map[string]bool{}
	for _, reg := range model {
		if slowMatch(reg.filter, topic) {
			want = append(want, reg.v)
		}
		path := ""
		for level := range strings.SplitSeq(reg.filter, "/") {
			path += level + "/"
			nodes[path] = true
		}
	}
	wantMatch(t, r, topic, want...)
	if r.len() != len(model) || r.nodes() != len(nodes) {
		t.Fatalf("%d registrations and %d nodes, want %d and %d: %v", r.len(), r.nodes(), len(model), len(nodes), model)
	}
}

// wantMatch compares without regard to order, which the Trie does not promise.
func wantMatch[V ~int | ~string](t *testing.T, r *Trie[V], topic string, want ...V) {
	t.Helper()
	got := r.Match(topic, nil)
	want = slices.Sorted(slices.Values(want))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("match(%q) = %v, want %v", topic, got, want)
	}
}

func wantEmpty[V comparable](t *testing.T, r *Trie[V]) {
	t.Helper()
	if r.len() != 0 || r.nodes() != 0 || !r.root.empty() {
		t.Fatalf("emptied, it holds %d registrations and %d nodes", r.len(), r.nodes())
	}
}

func TestTrieMatchAppends(t *testing.T) {
	var r Trie[int]
	r.Insert("a", 2)
	if got := r.Match("a", []int{1}); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("match appended to [1]: %v", got)
	}
	if got := r.Match("b", []int{1}); !slices.Equal(got, []int{1}) {
		t.Errorf("no match appended to [1]: %v", got)
	}
}

func TestTrieMatchAllocs(t *testing.T) {
	r := fleet(10_000)
	dst := make([]*int, 0, 16)
	topics := []string{fleetTopic(77), "fleet/none", "$SYS/x", "fleet/site7/unit77/temp/deeper"}
	if n := testing.AllocsPerRun(1000, func() {
		for _, topic := range topics {
			dst = r.Match(topic, dst[:0])
		}
	}); n != 0 {
		t.Errorf("%v allocations a match, want 0", n)
	}
}

// fleet returns a Trie of n filters, nine in ten of them one device's and the
// tenth with a wildcard. A topic of fleetTopic matches one or two.
func fleet(n int) *Trie[*int] {
	r := new(Trie[*int])
	for i := range n {
		filter := fleetTopic(i)
		switch i % 20 {
		case 5:
			filter = fmt.Sprintf("fleet/+/unit%d/temp", i)
		case 15:
			filter = fmt.Sprintf("fleet/site%d/unit%d/#", i%100, i)
		}
		r.Insert(filter, new(int))
	}
	return r
}

func fleetTopic(i int) string { return fmt.Sprintf("fleet/site%d/unit%d/temp", i%100, i) }

var trieSizes = []int{1_000, 10_000, 100_000}

// BenchmarkTrieMatch matches one topic of four levels (the bar: 120 ns, flat)
// and a thousand in turn, where the caches of the machine count too.
func BenchmarkTrieMatch(b *testing.B) {
	for _, topics := range []int{1, 1000} {
		for _, n := range trieSizes {
			b.Run(fmt.Sprintf("topics=%d/filters=%d", topics, n), func(b *testing.B) {
				r := fleet(n)
				names := make([]string, topics)
				for i := range names {
					names[i] = fleetTopic((i*7919 + 77) % n)
				}
				dst := make([]*int, 0, 16)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					dst = r.Match(names[i], dst[:0])
					if i++; i == len(names) {
						i = 0
					}
				}
			})
		}
	}
}

// BenchmarkTrieFanout is where fewChildren comes from: one level's cost by
// the number of children of the same length.
func BenchmarkTrieFanout(b *testing.B) {
	for _, children := range []int{1, 2, 3, 4, 5, 6, 8, 9, 16} {
		b.Run(fmt.Sprint(children), func(b *testing.B) {
			var r Trie[int]
			for i := range children {
				r.Insert(fmt.Sprintf("sensor%02d", i), i)
			}
			dst := make([]int, 0, 4)
			i := 0
			names := make([]string, children)
			for i := range names {
				names[i] = fmt.Sprintf("sensor%02d", i)
			}
			for b.Loop() {
				dst = r.Match(names[i], dst[:0])
				if i++; i == children {
					i = 0
				}
			}
		})
	}
}

func BenchmarkTrieInsertRemove(b *testing.B) {
	for _, n := range trieSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := fleet(n)
			v := new(int)
			b.ReportAllocs()
			for b.Loop() {
				r.Insert("fleet/site7/unit/new", v)
				r.Remove("fleet/site7/unit/new", v)
			}
		})
	}
}

// BenchmarkTrieMemory reports the bytes of heap a filter costs.
func BenchmarkTrieMemory(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		fleet(10_000)
	}
}
