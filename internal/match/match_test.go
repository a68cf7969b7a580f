package match

import (
	"slices"
	"strings"
	"testing"
)

// matchCases is the table of MQTT 5.0 section 4.7, without prefixes.
var matchCases = []struct {
	filter, topic string
	want          bool
}{
	{"sport/#", "sport", true},
	{"sport/#", "sport/", true},
	{"sport/#", "sport/a/b", true},
	{"sport/#", "sportx", false},
	{"sport/#", "/sport", false},
	{"sport/tennis/#", "sport", false},
	{"sport/tennis/+", "sport/tennis/player1", true},
	{"sport/tennis/+", "sport/tennis/player1/ranking", false},
	{"sport/+", "sport", false},
	{"sport/+", "sport/", true},
	{"sport/+/#", "sport", false},
	{"sport/+/#", "sport/", true},
	{"sport/+/#", "sport/a", true},
	{"sport/+/player1", "sport//player1", true},
	{"+/tennis/#", "sport/tennis", true},

	{"+/#", "/finance", true},
	{"/+", "/finance", true},
	{"+/+", "/finance", true},
	{"+", "/finance", false},
	{"#", "/finance", true},
	{"/#", "/finance", true},
	{"/#", "/", true},
	{"/#", "finance", false},

	{"#", "$SYS/x", false},
	{"+/x", "$SYS/x", false},
	{"+/#", "$SYS/x", false},
	{"#", "$", false},
	{"+", "$", false},
	{"$SYS/#", "$SYS/x", true},
	{"$SYS/#", "$SYS", true},
	{"$SYS/+", "$SYS/x", true},
	{"$SYS/x", "$SYS/x", true},
	{"$", "$", true},
	{"a/+", "a/$b", true},
	{"#", "a/$b", true},
	{"/+", "/$SYS", true},

	{"a", "a", true},
	{"a", "A", false},
	{"a", "a/", false},
	{"a/", "a", false},
	{"a/", "a/", true},
	{"/", "/", true},
	{"+/+", "/", true},
	{"+/+/+", "//", true},
	{"+/+", "//", false},
	{"//", "//", true},
	{"a//b", "a//b", true},
	{"a//b", "a/b", false},
	{"a/+/b", "a//b", true},
	{"a b", "a b", true},
	{" a", "a", false},
	{"é/+", "é/ü", true},
	{"e\u0301", "é", false},
	{"+/b/+/d", "a/b/c/d", true},
	{"+/b/+/d", "a/b/c", false},
	{"+/b/+/d", "a/b/c/d/e", false},
}

func TestMatch(t *testing.T) {
	for _, c := range matchCases {
		if got := Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
		if got := slowMatch(c.filter, c.topic); got != c.want {
			t.Errorf("slowMatch(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestMatchPrefixes(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"$share/g/a/+/c", "a/b/c", true},
		{"$share/g/a/+/c", "$share/g/a/b/c", false},
		{"$share/g//finance", "/finance", true},
		{"$share/g//finance", "finance", false},
		{"$share/g/#", "a/b", true},
		{"$share/g/#", "$SYS/x", false},
		{"$share/g/+/x", "$SYS/x", false},
		{"$share/g/$SYS/#", "$SYS/x", true},
		{"$share/a/b", "b", true},
		{"$queue/a/#", "a/b", true},
		{"$queue/#", "$SYS", false},
		{"$exclusive/a", "a", true},
		{"$exclusive/a", "$exclusive/a", false},
		{"$Share/g/a", "a", false},
		{"$shared/g/a", "a", false},
		{"$queued/a", "a", false},
	} {
		if got := Match(c.filter, c.topic); got != c.want {
			t.Errorf("Match(%q, %q) = %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

func TestMatchInvalid(t *testing.T) {
	long := strings.Repeat("a", 65536)
	for _, c := range []struct{ filter, topic string }{
		{"", "a"}, {"a", ""}, {"", ""}, {"#", ""},
		{"a#", "a#"}, {"a/#/b", "a/x/b"}, {"+a", "+a"}, {"a/b+", "a/b+"}, {"##", "a"},
		{"a/+", "a/+"}, {"#", "#"}, {"+", "+"}, {"a/#", "a/#"},
		{"$share/a", "$share/a"}, {"$share//a", "a"}, {"$share/g/", ""}, {"$share/g/", "$share/g/"}, {"$share/g+/a", "a"},
		{"a\x00", "a\x00"}, {"#", "a\x00"}, {"\xff", "\xff"}, {"+", "\xff"},
		{long, long}, {"#", long},
	} {
		if Match(c.filter, c.topic) {
			t.Errorf("Match(%.20q, %.20q) = true", c.filter, c.topic)
		}
	}
}

func TestSplitShared(t *testing.T) {
	for _, c := range []struct{ filter, prefix, rest string }{
		{"a/b", "", "a/b"},
		{"#", "", "#"},
		{"", "", ""},
		{"$share/g/a/b", "$share/g/", "a/b"},
		{"$share/g//", "$share/g/", "/"},
		{"$share/g/$SYS/#", "$share/g/", "$SYS/#"},
		{"$share/g/$share/h/a", "$share/g/", "$share/h/a"},
		{"$share", "", "$share"},
		{"$share/", "", "$share/"},
		{"$share/g", "", "$share/g"},
		{"$share/g/", "", "$share/g/"},
		{"$share//a", "", "$share//a"},
		{"$queue/a", "$queue/", "a"},
		{"$queue//", "$queue/", "/"},
		{"$queue/", "", "$queue/"},
		{"$queue", "", "$queue"},
		{"$exclusive/a/+", "$exclusive/", "a/+"},
		{"$exclusive/", "", "$exclusive/"},
		{"$SYS/#", "", "$SYS/#"},
		{"a/$share/g/b", "", "a/$share/g/b"},
	} {
		prefix, rest := SplitShared(c.filter)
		if prefix != c.prefix || rest != c.rest {
			t.Errorf("splitShared(%q) = %q, %q, want %q, %q", c.filter, prefix, rest, c.prefix, c.rest)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"a/#", "a/+", true},
		{"a/#", "a/b", true},
		{"a/+", "a/b", true},
		{"a/#", "a", true},
		{"a/#", "a/", true},
		{"a/#", "b/#", false},
		{"a/#", "+", true},
		{"a/+", "+", false},
		{"a/+/c", "a/b/+", true},
		{"a/+/c", "a/b/d", false},
		{"+/b", "a/+", true},
		{"a/+/#", "a", false},
		{"a/+/#", "a/#", true},
		{"/+", "+", false},
		{"/+", "+/+", true},
		{"/#", "+", false}, // they would meet in the empty topic
		{"/#", "+/#", true},
		{"/#", "#", true},
		{"+/#", "+", true},
		{"a//#", "a/+", true},
		{"#", "+/+/+", true},
		{"#", "$SYS/#", false},
		{"+/x", "$SYS/x", false},
		{"#", "a/$b", true},
		{"$SYS/#", "$SYS/+/x", true},
		{"a/#", "a/b/#", true},
		{"$share/g/a/#", "a/b", true},
		{"$share/g/a", "$share/h/a", true},
		{"$share/g/a", "$share/g/b", false},
		{"$queue/a", "$exclusive/+", true},
		{"$share/g/#", "$SYS/x", false},
	} {
		if got := Overlap(c.a, c.b); got != c.want {
			t.Errorf("Overlap(%q, %q) = %v, want %v", c.a, c.b, got, c.want)
		}
		if got := Overlap(c.b, c.a); got != c.want {
			t.Errorf("Overlap(%q, %q) = %v, want %v", c.b, c.a, got, c.want)
		}
	}
}

// TestOverlapExhaustive tries every pair of filters of up to three levels:
// what FuzzOverlap samples one level deeper.
func TestOverlapExhaustive(t *testing.T) {
	topics := allTopics(4)
	filters := allFilters(3)
	takes := make([][]bool, len(filters))
	for i, f := range filters {
		takes[i] = make([]bool, len(topics))
		for j, topic := range topics {
			takes[i][j] = slowMatch(f, topic)
			if got := Match(f, topic); got != takes[i][j] {
				t.Fatalf("Match(%q, %q) = %v", f, topic, got)
			}
		}
	}
	for i, a := range filters {
		for k, b := range filters {
			want := false
			for j := 0; j < len(topics) && !want; j++ {
				want = takes[i][j] && takes[k][j]
			}
			if got := Overlap(a, b); got != want {
				t.Fatalf("Overlap(%q, %q) = %v, want %v", a, b, got, want)
			}
		}
	}
}

// allFilters returns every filter of up to depth levels of levelAlphabet.
func allFilters(depth int) []string {
	all := []string{"#"}
	heads := []string{""}
	for range depth {
		var next []string
		for _, head := range heads {
			for _, level := range levelAlphabet[:plainLevels+1] {
				all = append(all, head+level, head+level+"/#")
				next = append(next, head+level+"/")
			}
		}
		heads = next
	}
	return slices.DeleteFunc(all, func(f string) bool { return f == "" || strings.Count(f, "/") >= depth })
}

// FuzzOverlap holds Overlap, and Match with it, against every topic of up to
// five levels over the alphabet that its filters of up to four are made from.
func FuzzOverlap(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, []byte{1, 2, 3})
	f.Add([]byte{6}, []byte{4, 6})
	f.Add([]byte{5, 6}, []byte{1})
	topics := allTopics(5)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 4 || len(b) > 4 {
			t.Skip()
		}
		x, y := filterFrom(a), filterFrom(b)
		if x == "" || y == "" {
			t.Skip()
		}
		want := false
		for _, topic := range topics {
			mx, my := slowMatch(x, topic), slowMatch(y, topic)
			if got := Match(x, topic); got != mx {
				t.Fatalf("Match(%q, %q) = %v", x, topic, got)
			}
			want = want || mx && my
		}
		if got := Overlap(x, y); got != want {
			t.Fatalf("Overlap(%q, %q) = %v, want %v", x, y, got, want)
		}
		if got := Overlap(y, x); got != want {
			t.Fatalf("Overlap(%q, %q) = %v, want %v", y, x, got, want)
		}
		if !Overlap(x, x) {
			t.Fatalf("Overlap(%q, %[1]q) = false", x)
		}
	})
}

// levelAlphabet is small so that random filters and topics meet, and holds what
// the rules treat apart. The first plainLevels of it can stand in a topic.
var levelAlphabet = []string{"", "a", "b", "$", "$a", "+", "#"}

const plainLevels = 5

// filterFrom makes a filter with one level a byte; it ends at the first "#".
func filterFrom(data []byte) string {
	var levels []string
	for _, c := range data {
		level := levelAlphabet[int(c)%len(levelAlphabet)]
		levels = append(levels, level)
		if level == "#" {
			break
		}
	}
	return strings.Join(levels, "/")
}

// topicFrom makes a topic name with one level a byte.
func topicFrom(data []byte) string {
	var levels []string
	for _, c := range data {
		levels = append(levels, levelAlphabet[int(c)%plainLevels])
	}
	return strings.Join(levels, "/")
}

// allTopics returns every topic name of up to depth levels of levelAlphabet.
func allTopics(depth int) []string {
	all := []string{}
	last := levelAlphabet[:plainLevels]
	for range depth {
		all = append(all, last...)
		var next []string
		for _, head := range last {
			for _, level := range levelAlphabet[:plainLevels] {
				next = append(next, head+"/"+level)
			}
		}
		last = next
	}
	return all[1:] // without "", which is no topic
}

// slowMatch is the reference: the rules of section 4.7 written down over split
// levels, sharing nothing with the code under test.
func slowMatch(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if f[len(f)-1] != "#" {
		return len(f) == len(t) && slowMatchLevels(f, t)
	}
	f = f[:len(f)-1]
	return len(t) >= len(f) && slowMatchLevels(f, t[:len(f)])
}

func slowMatchLevels(f, t []string) bool {
	for i := range f {
		if f[i] != "+" && f[i] != t[i] {
			return false
		}
	}
	return true
}
