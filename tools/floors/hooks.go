package main

import (
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
)

// hooks returns the fields and package variables by which a lower floor calls a higher
// one. How they are counted stands in the comment of the package.
func hooks(p *pkg, t *table) []string {
	h := &hookSearch{p: p, t: t, found: map[string]string{}, values: valuesOf(p, t)}
	for o := range h.values {
		h.judge(o)
	}
	return slices.Sorted(maps.Values(h.found))
}

type hookSearch struct {
	p      *pkg
	t      *table
	found  map[string]string // by field or variable
	values map[types.Object][]ast.Expr
}

// judge notes o if it is a field or a package variable that is given a way up.
func (h *hookSearch) judge(o types.Object) {
	v, ok := o.(*types.Var)
	d := h.p.own(o)
	if !ok || d == nil || !isTop(v) {
		return
	}
	floor := h.t.floor[h.p.file(d)]
	name := d.name
	if v.IsField() {
		name += "." + v.Name()
	}
	verb := "calls"
	look := h.above
	switch u := element(v.Type()).Underlying().(type) {
	case *types.Signature:
	case *types.Interface:
		if u.NumMethods() == 0 || types.Identical(v.Type(), types.Universe.Lookup("error").Type()) {
			return
		}
		verb, look = "is a", h.implementer
	default:
		return
	}
	for _, value := range h.values[o] {
		if up := look(floor, value, map[types.Object]bool{o: true}); up != "" {
			h.found[name] = fmt.Sprintf("%s (%s) %s %s", name, h.p.file(d), verb, up)
		}
	}
}

// element is what a slice, an array, a map or a channel holds, else t itself.
func element(t types.Type) types.Type {
	if c, ok := t.Underlying().(interface{ Elem() types.Type }); ok {
		if _, pointer := c.(*types.Pointer); !pointer {
			return element(c.Elem())
		}
	}
	return t
}

// above returns something of a higher floor that the function value refers to, empty
// for nothing. A method value refers to the method, not to the way there.
func (h *hookSearch) above(floor int, value ast.Expr, seen map[types.Object]bool) (up string) {
	switch v := value.(type) {
	case *ast.SelectorExpr:
		value = v.Sel
	case *ast.CallExpr:
		return h.passedOn(floor, v, seen, h.above)
	}
	var locals []types.Object
	ast.Inspect(value, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok || up != "" {
			return up == ""
		}
		o := h.p.TypesInfo.Uses[id]
		if d := h.p.own(o); d != nil && isTop(o) && h.t.floor[h.p.file(d)] < floor {
			up = d.name
		}
		if isFunction(o) && !isTop(o) {
			locals = append(locals, o)
		}
		return true
	})
	for _, o := range locals {
		if up == "" {
			up = h.through(floor, o, seen, h.above)
		}
	}
	return up
}

// isFunction reports whether o is of a function type, or holds such.
func isFunction(o types.Object) bool {
	if o == nil || o.Type() == nil {
		return false
	}
	_, ok := element(o.Type()).Underlying().(*types.Signature)
	return ok
}

// implementer returns the type of value when it stands on a higher floor.
func (h *hookSearch) implementer(floor int, value ast.Expr, seen map[types.Object]bool) string {
	typ := h.p.TypesInfo.TypeOf(value)
	if ptr, ok := typ.(*types.Pointer); ok {
		typ = ptr.Elem()
	}
	if named, ok := typ.(*types.Named); ok && !types.IsInterface(named) {
		if d := h.p.own(named.Obj()); d != nil && h.t.floor[h.p.file(d)] < floor {
			return d.name
		}
		return ""
	}
	switch v := value.(type) {
	case *ast.Ident:
		if o := h.p.TypesInfo.Uses[v]; o != nil && !isTop(o) {
			return h.through(floor, o, seen, h.implementer)
		}
	case *ast.CallExpr:
		if f := called(h.p, v); f != nil && f.Pkg() == h.p.Types {
			return h.through(floor, f.Origin().Type().(*types.Signature).Results().At(0), seen, h.implementer)
		}
		return h.passedOn(floor, v, seen, h.implementer)
	}
	return ""
}

// through looks into what a parameter or a variable of a function is given.
func (h *hookSearch) through(floor int, o types.Object, seen map[types.Object]bool, look lookFunc) string {
	if seen[o] {
		return ""
	}
	seen[o] = true
	for _, value := range h.values[o] {
		if up := look(floor, value, seen); up != "" {
			return up
		}
	}
	return ""
}

// passedOn looks into the operands of append and of conversions. Functions that a
// function returns are not looked into, as what stops a timer is none of its callers.
func (h *hookSearch) passedOn(floor int, call *ast.CallExpr, seen map[types.Object]bool, look lookFunc) string {
	f := h.p.TypesInfo.Types[call.Fun]
	if !f.IsBuiltin() && !f.IsType() {
		return ""
	}
	for _, arg := range call.Args {
		if up := look(floor, arg, seen); up != "" {
			return up
		}
	}
	return ""
}

// lookFunc finds what of a floor above floor a value leads to.
type lookFunc func(floor int, value ast.Expr, seen map[types.Object]bool) string

// isTop reports whether o is a top-level declaration, a method or a field: not a
// variable or parameter of a function.
func isTop(o types.Object) bool {
	if v, ok := o.(*types.Var); ok {
		return v.IsField() || v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
	}
	return true
}

// valuesOf returns what each field, variable and parameter of the package is given
// outside the files that are there for tests.
func valuesOf(p *pkg, t *table) map[types.Object][]ast.Expr {
	all := givers{p, map[types.Object][]ast.Expr{}}
	for _, f := range p.Syntax {
		if slices.Contains(t.test, filepath.Base(p.Fset.Position(f.Pos()).Filename)) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				all.assign(n.Lhs, n.Rhs)
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if len(n.Values) == len(n.Names) {
						all.give(p.TypesInfo.Defs[name], n.Values[i])
					}
				}
			case *ast.CompositeLit:
				all.literal(n)
			case *ast.CallExpr:
				all.call(n)
			case *ast.FuncDecl:
				all.returns(n)
			}
			return true
		})
	}
	return all.values
}

// givers collects what objects are given.
type givers struct {
	p      *pkg
	values map[types.Object][]ast.Expr
}

func (g givers) give(to types.Object, value ast.Expr) {
	if v, ok := to.(*types.Var); ok {
		g.values[v.Origin()] = append(g.values[v.Origin()], value)
	}
}

// assign notes a = b, a.f = b and a[i] = b.
func (g givers) assign(to, values []ast.Expr) {
	if len(to) != len(values) {
		return
	}
	for i, l := range to {
		if index, ok := l.(*ast.IndexExpr); ok {
			l = index.X
		}
		switch l := l.(type) {
		case *ast.SelectorExpr:
			g.give(g.p.TypesInfo.Uses[l.Sel], values[i])
		case *ast.Ident:
			g.give(g.p.TypesInfo.ObjectOf(l), values[i])
		}
	}
}

// literal notes the fields of a struct literal, with their names or by position.
func (g givers) literal(l *ast.CompositeLit) {
	typ, ok := g.p.TypesInfo.TypeOf(l).Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range l.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			g.give(g.p.TypesInfo.Uses[kv.Key.(*ast.Ident)], kv.Value)
		} else {
			g.give(typ.Field(i), e)
		}
	}
}

// call notes what the parameters of a function of the package are given.
func (g givers) call(call *ast.CallExpr) {
	f := called(g.p, call)
	if f == nil || f.Pkg() != g.p.Types {
		return
	}
	params := f.Origin().Type().(*types.Signature).Params()
	for i, a := range call.Args {
		if params.Len() > 0 {
			g.give(params.At(min(i, params.Len()-1)), a)
		}
	}
}

// returns notes what the results of a function are given.
func (g givers) returns(f *ast.FuncDecl) {
	results := g.p.TypesInfo.Defs[f.Name].Type().(*types.Signature).Results()
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if len(n.Results) == results.Len() {
				for i, e := range n.Results {
					g.give(results.At(i), e)
				}
			}
		}
		return true
	})
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
