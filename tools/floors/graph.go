package main

import (
	"cmp"
	"maps"
	"slices"
)

// graph says which node uses which, by which names.
type graph map[string]map[string]map[string]bool

// add notes that from uses to by name.
func (g graph) add(from, to, name string) {
	if from == to {
		return
	}
	if g[from] == nil {
		g[from] = map[string]map[string]bool{}
	}
	if g[from][to] == nil {
		g[from][to] = map[string]bool{}
	}
	g[from][to][name] = true
}

// circles returns the sets of more than one node that all reach each other, the
// largest first.
func (g graph) circles() [][]string {
	s := &search{g: g, index: map[string]int{}, low: map[string]int{}, open: map[string]bool{}}
	for _, n := range slices.Sorted(maps.Keys(g)) {
		if s.index[n] == 0 {
			s.visit(n)
		}
	}
	slices.SortStableFunc(s.found, func(a, b []string) int { return cmp.Compare(len(b), len(a)) })
	return s.found
}

// search is Tarjan's search for strongly connected components.
type search struct {
	g          graph
	index, low map[string]int
	open       map[string]bool
	stack      []string
	found      [][]string
}

func (s *search) visit(n string) {
	s.index[n] = len(s.index) + 1
	s.low[n] = s.index[n]
	s.stack, s.open[n] = append(s.stack, n), true
	for _, to := range slices.Sorted(maps.Keys(s.g[n])) {
		if s.index[to] == 0 {
			s.visit(to)
			s.low[n] = min(s.low[n], s.low[to])
		} else if s.open[to] {
			s.low[n] = min(s.low[n], s.index[to])
		}
	}
	if s.low[n] != s.index[n] {
		return
	}
	at := slices.Index(s.stack, n)
	circle := slices.Sorted(slices.Values(s.stack[at:]))
	for _, m := range circle {
		s.open[m] = false
	}
	s.stack = s.stack[:at]
	if len(circle) > 1 {
		s.found = append(s.found, circle)
	}
}
