package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// clock are the names of package time that ask the clock or wait.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// walls finds what the packages behind walls import beyond what the table lets them, and
// where they ask the clock. Their tests may do both.
func walls(root, module string, t *table) (all []string, err error) {
	for _, dir := range slices.Sorted(maps.Keys(t.walls)) {
		names, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(dir), "*.go"))
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "_test.go") })
		if len(names) == 0 {
			return nil, fmt.Errorf("%s has a wall and no Go files: take it out of the table, or name where it went", dir)
		}
		for _, name := range names {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, what := range breaches(f, module, t.walls[dir]) {
				all = append(all, dir+"/"+filepath.Base(name)+" "+what)
			}
		}
	}
	return all, nil
}

// breaches returns what f imports that is not among allowed, and what it takes from the
// clock. Packages of the module are allowed by their directory.
func breaches(f *ast.File, module string, allowed []string) (all []string) {
	timeName := ""
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if !slices.Contains(allowed, strings.TrimPrefix(path, module+"/")) {
			all = append(all, "imports "+path)
		}
		if path == "time" {
			timeName = "time"
			if i.Name != nil {
				timeName = i.Name.Name
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clock, s.Sel.Name) {
				all = append(all, "asks time."+s.Sel.Name)
			}
		}
		return true
	})
	return all
}
