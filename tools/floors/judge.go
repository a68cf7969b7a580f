package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// report is what there is to say of a package.
type report struct {
	decls, files graph
	nDecls       int
	nFiles       int
	breaks       []string // names of a higher floor in a lower one
	outside      []string // names of a declaration outside the files that may have them
	across       []string // circles over more than one floor
	impure       []string // imports that a file or a package must not have
	hooks        []string // ways up
	wide         []string // types with methods in many files
	widest       []string // the widest types
	long         []string // functions
	large        []string // files
}

const (
	maxFunction = 60 // lines
	maxFile     = 500
	maxSpread   = 5 // files with methods of a type
)

// judge measures p by t.
func judge(p *pkg, t *table) *report {
	r := &report{decls: graph{}, files: graph{}, nFiles: len(p.files())}
	owners := map[string]bool{}
	for i := range p.decls {
		owners[p.decls[i].owner()] = true
	}
	r.nDecls = len(owners)
	outside := map[string]bool{}
	for id, o := range p.TypesInfo.Uses {
		from, to := p.at(id.Pos()), p.own(o)
		if from == nil || to == nil || to.name == "_" {
			continue
		}
		r.decls.add(from.owner(), to.owner(), name(o, to))
		a, b := p.file(from), p.file(to)
		r.files.add(a, b, name(o, to))
		if files, limited := t.only[o.Name()]; limited && to.name == o.Name() && !slices.Contains(files, a) {
			outside[fmt.Sprintf("%s in %s (%s)", o.Name(), a, from.name)] = true
		}
	}
	r.outside = slices.Sorted(maps.Keys(outside))
	r.breaks = breaks(r.files, t)
	r.across = across(p, r, t)
	r.hooks = hooks(p, t)
	r.spread(p)
	r.sizes(p)
	r.imports(p, t)
	return r
}

// name is how the use of o, which stands in the declaration d, is printed.
func name(o types.Object, d *decl) string {
	if d.name == o.Name() || strings.HasSuffix(d.name, "."+o.Name()) {
		return d.name
	}
	return d.name + "." + o.Name() // a field
}

// breaks returns what files name of files on higher floors.
func breaks(files graph, t *table) (all []string) {
	for a, uses := range files {
		for b, names := range uses {
			if t.floor[b] < t.floor[a] {
				all = append(all, fmt.Sprintf("%s (%s) -> %s (%s): %s", a, t.floors[t.floor[a]].name, b, t.floors[t.floor[b]].name,
					list(slices.Sorted(maps.Keys(names)))))
			}
		}
	}
	slices.Sort(all)
	return all
}

// across returns the circles that stand on more than one floor. A type stands where it is
// declared, wherever its methods are.
func across(p *pkg, r *report, t *table) (all []string) {
	at := map[string]string{}
	for i := range p.decls {
		if d := &p.decls[i]; d.owner() == d.name {
			at[d.name] = p.file(d)
		}
	}
	for _, c := range r.files.circles() {
		all = appendAcross(all, c, func(file string) int { return t.floor[file] }, t)
	}
	for _, c := range r.decls.circles() {
		all = appendAcross(all, c, func(decl string) int { return t.floor[at[decl]] }, t)
	}
	return all
}

// appendAcross appends circle, with its floors, if it has more than one.
func appendAcross(all, circle []string, floor func(string) int, t *table) []string {
	on := map[int]bool{}
	for _, n := range circle {
		on[floor(n)] = true
	}
	if len(on) < 2 {
		return all
	}
	var names []string
	for _, f := range slices.Sorted(maps.Keys(on)) {
		names = append(names, t.floors[f].name)
	}
	return append(all, list(names)+": "+list(circle))
}

// spread finds the types whose methods stand in many files.
func (r *report) spread(p *pkg) {
	methods, files := map[string]int{}, map[string]map[string]bool{}
	for i := range p.decls {
		d := &p.decls[i]
		if !strings.Contains(d.name, ".") {
			continue
		}
		o := d.owner()
		methods[o]++
		if files[o] == nil {
			files[o] = map[string]bool{}
		}
		files[o][p.file(d)] = true
	}
	types := slices.Collect(maps.Keys(methods))
	slices.SortFunc(types, func(a, b string) int {
		return 1000*(len(files[b])-len(files[a])) + methods[b] - methods[a]
	})
	for i, o := range types {
		line := fmt.Sprintf("%s %d methods in %d files", o, methods[o], len(files[o]))
		if i < 8 {
			r.widest = append(r.widest, line)
		}
		if len(files[o]) > maxSpread {
			r.wide = append(r.wide, line+": "+list(slices.Sorted(maps.Keys(files[o]))))
		}
	}
}

// sizes finds long functions and large files.
func (r *report) sizes(p *pkg) {
	for i := range p.decls {
		d := &p.decls[i]
		if _, ok := d.node.(*ast.FuncDecl); !ok {
			continue
		}
		if n := p.Fset.Position(d.to).Line - p.Fset.Position(d.from).Line + 1; n > maxFunction {
			r.long = append(r.long, fmt.Sprintf("%s has %d lines", d.name, n))
		}
	}
	for _, f := range p.Syntax {
		if n := p.Fset.File(f.Pos()).LineCount(); n > maxFile {
			r.large = append(r.large, fmt.Sprintf("%s has %d lines", filepath.Base(p.Fset.Position(f.Pos()).Filename), n))
		}
	}
}

// imports finds what pure files import.
func (r *report) imports(p *pkg, t *table) {
	for _, f := range p.Syntax {
		file := filepath.Base(p.Fset.Position(f.Pos()).Filename)
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			if slices.Contains(t.pure[file], path) {
				r.impure = append(r.impure, file+" imports "+path)
			}
		}
	}
}

// figure is one measured number, and what makes it up.
type figure struct {
	name  string
	n     int
	items []string
}

// figures returns what has a limit.
func (r *report) figures() []figure {
	return []figure{
		{"declarations", largest(r.decls), nil},
		{"files", largest(r.files), nil},
		{"breaks", len(r.breaks), r.breaks},
		{"across", len(r.across), r.across},
		{"outside", len(r.outside), r.outside},
		{"impure", len(r.impure), r.impure},
		{"hooks", len(r.hooks), r.hooks},
		{"spread", len(r.wide), r.wide},
		{"functions", len(r.long), r.long},
		{"lines", len(r.large), r.large},
	}
}

func largest(g graph) int {
	if c := g.circles(); len(c) > 0 {
		return len(c[0])
	}
	return 1
}

// over returns what is beyond its limit in t. A figure without a limit must be 0.
func (r *report) over(t *table) (all []string) {
	for _, f := range r.figures() {
		if f.n > t.limits[f.name] {
			all = append(all, fmt.Sprintf("%s: %d, limit %d", f.name, f.n, t.limits[f.name]))
		}
	}
	return all
}

// under returns what is better than its limit in t.
func (r *report) under(t *table) (all []string) {
	for _, f := range r.figures() {
		if f.n < t.limits[f.name] {
			all = append(all, fmt.Sprintf("%s: %d, limit %d", f.name, f.n, t.limits[f.name]))
		}
	}
	return all
}

// print writes the figures, and what they consist of.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d declarations, %d files\n", r.nDecls, r.nFiles)
	for _, c := range []struct {
		what string
		g    graph
	}{{"declarations", r.decls}, {"files", r.files}} {
		fmt.Fprintf(w, "largest circle of %s: %d\n", c.what, largest(c.g))
		for _, circle := range c.g.circles() {
			fmt.Fprintf(w, "  %d: %s\n", len(circle), list(circle))
		}
	}
	titles := map[string]string{
		"breaks": "names of a higher floor", "across": "circles across floors", "outside": "names outside their files", "impure": "imports and clocks of pure files and walls",
		"hooks": "hooks up", "spread": "types with methods in more than 5 files", "functions": "functions over 60 lines", "lines": "files over 500 lines",
	}
	for _, f := range r.figures()[2:] {
		fmt.Fprintf(w, "%s: %d\n", titles[f.name], f.n)
		for _, i := range f.items {
			fmt.Fprintf(w, "  %s\n", i)
		}
	}
	fmt.Fprintf(w, "widest types: %s\n", strings.Join(r.widest, "; "))
}

// printUses writes every use between two files.
func (r *report) printUses(w io.Writer) {
	for _, a := range slices.Sorted(maps.Keys(r.files)) {
		for _, b := range slices.Sorted(maps.Keys(r.files[a])) {
			fmt.Fprintf(w, "%s -> %s: %s\n", a, b, list(slices.Sorted(maps.Keys(r.files[a][b]))))
		}
	}
}
