package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
)

// hooks returns the struct fields by which a lower floor calls a higher one.
func hooks(p *pkg, t *table) []string {
	h := &hookSearch{p: p, t: t, found: map[string]string{}, args: argumentsOf(p)}
	for _, f := range p.Syntax {
		if slices.Contains(t.test, filepath.Base(p.Fset.Position(f.Pos()).Filename)) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, l := range n.Lhs {
					if s, ok := l.(*ast.SelectorExpr); ok && len(n.Lhs) == len(n.Rhs) {
						h.given(p.TypesInfo.Uses[s.Sel], n.Rhs[i])
					}
				}
			case *ast.CompositeLit:
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok {
							h.given(p.TypesInfo.Uses[key], kv.Value)
						}
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Values(h.found))
}

type hookSearch struct {
	p     *pkg
	t     *table
	found map[string]string // by field
	args  map[types.Object][]ast.Expr
}

// given judges that field is given value.
func (h *hookSearch) given(field types.Object, value ast.Expr) {
	v, ok := field.(*types.Var)
	d := h.p.own(field)
	if !ok || !v.IsField() || d == nil {
		return
	}
	floor := h.t.floor[h.p.file(d)]
	name := d.name + "." + v.Name()
	switch u := v.Type().Underlying().(type) {
	case *types.Signature:
		if up := h.above(floor, value, 0); up != "" {
			h.found[name] = fmt.Sprintf("%s (%s) calls %s", name, h.p.file(d), up)
		}
	case *types.Interface:
		if up := h.implementer(floor, value); up != "" && u.NumMethods() > 0 {
			h.found[name] = fmt.Sprintf("%s (%s) is a %s", name, h.p.file(d), up)
		}
	}
}

// above returns something of a higher floor that value refers to, empty for nothing.
// A parameter refers to what it is given, a method value to the method, not to the way
// there; what a call returns is not looked into.
func (h *hookSearch) above(floor int, value ast.Expr, depth int) (up string) {
	switch v := value.(type) {
	case *ast.SelectorExpr:
		value = v.Sel
	case *ast.CallExpr:
		return ""
	}
	ast.Inspect(value, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok || up != "" {
			return up == ""
		}
		o := h.p.TypesInfo.Uses[id]
		if d := h.p.own(o); d != nil && isTop(o) && h.t.floor[h.p.file(d)] < floor {
			up = d.name
			return false
		}
		if depth < 3 {
			for _, arg := range h.args[o] {
				if a := h.above(floor, arg, depth+1); a != "" {
					up = a
				}
			}
		}
		return true
	})
	return up
}

// implementer returns the type of value when it stands on a higher floor.
func (h *hookSearch) implementer(floor int, value ast.Expr) string {
	typ := h.p.TypesInfo.TypeOf(value)
	if ptr, ok := typ.(*types.Pointer); ok {
		typ = ptr.Elem()
	}
	named, ok := typ.(*types.Named)
	if !ok {
		return ""
	}
	if d := h.p.own(named.Obj()); d != nil && h.t.floor[h.p.file(d)] < floor {
		return d.name
	}
	return ""
}

// isTop reports whether o is a top-level declaration, a method or a field: not a
// variable or parameter of a function.
func isTop(o types.Object) bool {
	if v, ok := o.(*types.Var); ok {
		return v.IsField() || v.Parent() == v.Pkg().Scope()
	}
	return true
}

// argumentsOf returns what parameters of the package's functions are given.
func argumentsOf(p *pkg) map[types.Object][]ast.Expr {
	args := map[types.Object][]ast.Expr{}
	for _, f := range p.Syntax {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f := called(p, call)
			if f == nil || f.Pkg() != p.Types {
				return true
			}
			params := f.Type().(*types.Signature).Params()
			for i, a := range call.Args {
				if i < params.Len() {
					args[params.At(i)] = append(args[params.At(i)], a)
				}
			}
			return true
		})
	}
	return args
}

// called returns the function that call calls, nil when it is not known.
func called(p *pkg, call *ast.CallExpr) *types.Func {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		f, _ := p.TypesInfo.Uses[fun].(*types.Func)
		return f
	case *ast.SelectorExpr:
		f, _ := p.TypesInfo.Uses[fun.Sel].(*types.Func)
		return f
	}
	return nil
}
