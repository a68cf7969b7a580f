package match

import (
	"slices"
	"strings"
)

// Trie maps topics to the values registered under the filters that match
// them. It is a trie with one node per filter level, so that a match costs by
// the depth of the topic and not by the number of filters. The zero value is
// empty and ready. It holds no lock; its user guards it.
//
// Filters are routed by what SplitShared leaves of them. They are taken as
// valid: the caller has checked their syntax.
type Trie[V comparable] struct {
	root  node[V]
	count int
	gen   uint64
}

// Insert registers v under filter. Every Insert is a registration of its own,
// also of the same v under the same filter, and is undone by one Remove.
func (r *Trie[V]) Insert(filter string, v V) {
	_, rest := SplitShared(filter)
	r.root.insert(rest, v)
	r.count++
	r.gen++
}

// Remove takes one registration of v under filter away and reports whether
// there was one. Filters that differ in their prefix only are one here.
func (r *Trie[V]) Remove(filter string, v V) bool {
	_, rest := SplitShared(filter)
	if !r.root.remove(rest, v) {
		return false
	}
	r.count--
	r.gen++
	return true
}

// Match appends to dst the value of every registration whose filter matches
// topic: a value registered under two such filters comes twice.
func (r *Trie[V]) Match(topic string, dst []V) []V {
	if leadsWithDollar(topic) {
		// Wildcards of the first level are not for these [MQTT-4.7.2-1].
		level, rest, more := cutLevel(topic)
		return r.root.child(level).descend(rest, more, dst)
	}
	return r.root.match(topic, dst)
}

// generation changes with every Insert and Remove: a match remembered together
// with it holds as long as it stays the same.
func (r *Trie[V]) generation() uint64 { return r.gen }

// len returns the number of registrations.
func (r *Trie[V]) len() int { return r.count }

// nodes counts the nodes below the root.
func (r *Trie[V]) nodes() int { return r.root.count() - 1 }

// fewChildren is the number of literal children up to which the scan of a slice
// is no slower than a map (BenchmarkTrieFanout); it is a tenth of the memory.
const fewChildren = 4

// node stands for the levels that lead to it. Below the root a node has
// values or children; one that loses both is cut off by its parent.
type node[V comparable] struct {
	values []V                 // of the filters that end here
	few    []edge[V]           // literal children, while many is nil
	many   map[string]*node[V] // literal children, once they outgrew few
	plus   *node[V]            // child "+"
	hash   *node[V]            // child "#", always a leaf
}

type edge[V comparable] struct {
	level string
	node  *node[V]
}

// match appends the values that n's children hold for topic, which is what is
// left of the topic below n.
func (n *node[V]) match(topic string, dst []V) []V {
	for {
		level, rest, more := cutLevel(topic)
		if n.hash != nil {
			dst = append(dst, n.hash.values...)
		}
		if n.plus != nil {
			dst = n.plus.descend(rest, more, dst)
		}
		n = n.child(level)
		if n == nil || !more {
			return n.descend(rest, more, dst)
		}
		topic = rest
	}
}

// descend goes on at n with what is left of the topic, if there is more.
func (n *node[V]) descend(rest string, more bool, dst []V) []V {
	switch {
	case n == nil:
		return dst
	case more:
		return n.match(rest, dst)
	}
	dst = append(dst, n.values...)
	if n.hash != nil { // "#" includes the level above it
		dst = append(dst, n.hash.values...)
	}
	return dst
}

func (n *node[V]) child(level string) *node[V] {
	if n.many != nil {
		return n.many[level]
	}
	for i := range n.few {
		if n.few[i].level == level {
			return n.few[i].node
		}
	}
	return nil
}

func (n *node[V]) insert(filter string, v V) {
	for more := true; more; {
		var level string
		level, filter, more = cutLevel(filter)
		n = n.grow(level)
	}
	n.values = append(n.values, v)
}

// grow returns the child for a level of a filter and makes it if need be.
func (n *node[V]) grow(level string) *node[V] {
	switch level {
	case "+":
		if n.plus == nil {
			n.plus = new(node[V])
		}
		return n.plus
	case "#":
		if n.hash == nil {
			n.hash = new(node[V])
		}
		return n.hash
	}
	c := n.child(level)
	if c == nil {
		c = new(node[V])
		n.attach(strings.Clone(level), c) // a piece would keep the whole filter
	}
	return c
}

func (n *node[V]) attach(level string, c *node[V]) {
	if n.many == nil && len(n.few) < fewChildren {
		n.few = append(n.few, edge[V]{level, c})
		return
	}
	if n.many == nil {
		n.many = make(map[string]*node[V])
		for _, e := range n.few {
			n.many[e.level] = e.node
		}
		n.few = nil
	}
	n.many[level] = c
}

// remove takes v from the end of filter below n and cuts off what that leaves
// empty.
func (n *node[V]) remove(filter string, v V) bool {
	level, rest, more := cutLevel(filter)
	c := n.lookup(level)
	switch {
	case c == nil:
		return false
	case more:
		if !c.remove(rest, v) {
			return false
		}
	default:
		i := slices.Index(c.values, v)
		if i < 0 {
			return false
		}
		c.values = slices.Delete(c.values, i, i+1)
	}
	if c.empty() {
		n.detach(level)
	}
	return true
}

// lookup returns the child for a level of a filter, or nil.
func (n *node[V]) lookup(level string) *node[V] {
	switch level {
	case "+":
		return n.plus
	case "#":
		return n.hash
	}
	return n.child(level)
}

func (n *node[V]) detach(level string) {
	switch level {
	case "+":
		n.plus = nil
		return
	case "#":
		n.hash = nil
		return
	}
	if n.many == nil {
		n.few = slices.DeleteFunc(n.few, func(e edge[V]) bool { return e.level == level })
		return
	}
	delete(n.many, level)
	if len(n.many) <= fewChildren/2 { // a map never gives its memory back
		few := make([]edge[V], 0, fewChildren)
		for l, c := range n.many {
			few = append(few, edge[V]{l, c})
		}
		n.few, n.many = few, nil
	}
}

func (n *node[V]) empty() bool {
	return len(n.values) == 0 && len(n.few) == 0 && n.many == nil && n.plus == nil && n.hash == nil
}

// count returns the number of nodes from n down, n included.
func (n *node[V]) count() int {
	if n == nil {
		return 0
	}
	total := 1 + n.plus.count() + n.hash.count()
	for _, e := range n.few {
		total += e.node.count()
	}
	for _, c := range n.many {
		total += c.count()
	}
	return total
}
