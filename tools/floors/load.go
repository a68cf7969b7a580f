package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// pkg is the package under judgement.
type pkg struct {
	*packages.Package
	decls []decl
	moved map[string]string // the file of a declaration, as if
}

// decl is a top-level declaration, or a method.
type decl struct {
	name     string // with the type before it, for a method: link.kill
	from, to token.Pos
	node     ast.Node
}

// load reads the package in dir with its types.
func load(dir string) (*pkg, error) {
	const mode = packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedImports
	all, err := packages.Load(&packages.Config{Mode: mode, Dir: dir}, ".")
	if err != nil {
		return nil, err
	}
	if len(all) != 1 || len(all[0].Errors) > 0 {
		return nil, fmt.Errorf("%s does not compile: %v", dir, all[0].Errors)
	}
	p := &pkg{Package: all[0], moved: map[string]string{}}
	for _, f := range p.Syntax {
		for _, d := range f.Decls {
			p.decls = append(p.decls, declsOf(d)...)
		}
	}
	slices.SortFunc(p.decls, func(a, b decl) int { return int(a.from - b.from) })
	return p, nil
}

// declsOf returns what d declares.
func declsOf(d ast.Decl) (all []decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiver(d.Recv.List[0].Type) + "." + name
		}
		return []decl{{name, d.Pos(), d.End(), d}}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				all = append(all, decl{s.Name.Name, s.Pos(), s.End(), s})
			case *ast.ValueSpec:
				all = append(all, decl{s.Names[0].Name, s.Pos(), s.End(), s})
			}
		}
	}
	return all
}

// receiver is the name of the type in a receiver.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// move counts declarations as if they stood in other files: Name=file.go,...
func (p *pkg) move(moves string) error {
	for m := range strings.SplitSeq(moves, ",") {
		if m == "" {
			continue
		}
		name, file, ok := strings.Cut(m, "=")
		if !ok || !slices.ContainsFunc(p.decls, func(d decl) bool { return d.name == name }) {
			return fmt.Errorf("-move %s: want the name of a declaration, = and a file", m)
		}
		p.moved[name] = file
	}
	return nil
}

// at returns the declaration around pos, nil for none (an import, a package clause).
func (p *pkg) at(pos token.Pos) *decl {
	i, found := slices.BinarySearchFunc(p.decls, pos, func(d decl, pos token.Pos) int { return int(d.from - pos) })
	if !found {
		i--
	}
	if i < 0 || pos >= p.decls[i].to {
		return nil
	}
	return &p.decls[i]
}

// file returns the file of d.
func (p *pkg) file(d *decl) string {
	if f, ok := p.moved[d.name]; ok {
		return f
	}
	return filepath.Base(p.Fset.Position(d.from).Filename)
}

// files returns all files with declarations.
func (p *pkg) files() []string {
	all := map[string]bool{}
	for i := range p.decls {
		all[p.file(&p.decls[i])] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// owner is the type of a method, and the declaration itself else.
func (d *decl) owner() string {
	name, _, _ := strings.Cut(d.name, ".")
	return name
}

// own reports whether o is declared in the package, at its top level or as a field or
// method of what is.
func (p *pkg) own(o types.Object) *decl {
	if o == nil || o.Pkg() != p.Types || !o.Pos().IsValid() {
		return nil
	}
	return p.at(o.Pos())
}
