package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// checkDir returns the findings of the package in one directory; a directory
// without a public package has none.
func checkDir(dir string) ([]string, error) {
	names, err := goFiles(dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	c := checker{fset: token.NewFileSet()}
	for _, name := range names {
		file, err := parser.ParseFile(c.fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if file.Name.Name == "main" {
			return nil, nil
		}
		if filepath.Base(name) == "doc.go" && file.Doc != nil {
			c.hasDoc = true
		}
		c.files = append(c.files, file)
	}
	c.collectTypes()
	for _, file := range c.files {
		c.checkFile(file)
	}
	if !c.hasDoc {
		c.findings = append(c.findings, fmt.Sprintf("%s: package has no doc.go with a package comment", dir))
	}
	return c.findings, nil
}

func goFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// checker gathers the findings of one package.
type checker struct {
	fset     *token.FileSet
	files    []*ast.File
	local    map[string]bool // unexported types: their methods are not public by name
	hasDoc   bool
	findings []string
}

// collectTypes runs over all files first: a method may stand in another file
// than its type.
func (c *checker) collectTypes() {
	c.local = make(map[string]bool)
	for _, file := range c.files {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			for _, spec := range gen.Specs {
				name := spec.(*ast.TypeSpec).Name
				c.local[name.Name] = !name.IsExported()
			}
		}
	}
}

func (c *checker) checkFile(file *ast.File) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			c.checkFunc(decl)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				c.checkSpec(decl, spec)
			}
		}
	}
}

func (c *checker) checkFunc(decl *ast.FuncDecl) {
	if !decl.Name.IsExported() || decl.Doc != nil {
		return
	}
	if decl.Recv == nil {
		c.report(decl.Pos(), "func", decl.Name.Name)
		return
	}
	recv := receiverName(decl.Recv.List[0].Type)
	if !c.local[recv] {
		c.report(decl.Pos(), "method", recv+"."+decl.Name.Name)
	}
}

// checkSpec accepts a comment on the group for constants and variables that
// share it, as godoc shows it; every type needs its own.
func (c *checker) checkSpec(decl *ast.GenDecl, spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		c.checkType(decl, spec)
	case *ast.ValueSpec:
		if spec.Doc != nil || spec.Comment != nil || decl.Doc != nil {
			return
		}
		for _, name := range spec.Names {
			if name.IsExported() {
				c.report(name.Pos(), decl.Tok.String(), name.Name)
			}
		}
	}
}

func (c *checker) checkType(decl *ast.GenDecl, spec *ast.TypeSpec) {
	if !spec.Name.IsExported() {
		return
	}
	if spec.Doc == nil && spec.Comment == nil && (decl.Doc == nil || decl.Lparen.IsValid()) {
		c.report(spec.Pos(), "type", spec.Name.Name)
	}
	switch t := spec.Type.(type) {
	case *ast.StructType:
		c.checkFields(spec.Name.Name, "field", t.Fields)
	case *ast.InterfaceType:
		c.checkFields(spec.Name.Name, "method", t.Methods)
	}
}

// checkFields checks struct fields and interface methods. A comment above a
// run of adjacent fields speaks for the run.
func (c *checker) checkFields(owner, kind string, fields *ast.FieldList) {
	lastLine, covered := -1, false
	for _, f := range fields.List {
		line := c.fset.Position(f.Pos()).Line
		documented := f.Doc != nil || f.Comment != nil
		covered = documented || (covered && line == lastLine+1)
		lastLine = c.fset.Position(f.End()).Line
		if covered {
			continue
		}
		for _, name := range f.Names {
			if name.IsExported() {
				c.report(name.Pos(), kind, owner+"."+name.Name)
			}
		}
	}
}

func (c *checker) report(pos token.Pos, kind, name string) {
	c.findings = append(c.findings, fmt.Sprintf("%s: exported %s %s has no doc comment", c.fset.Position(pos), kind, name))
}

// receiverName returns the type's name without pointer and type parameters.
func receiverName(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return receiverName(e.X)
	case *ast.ParenExpr:
		return receiverName(e.X)
	case *ast.IndexExpr:
		return receiverName(e.X)
	case *ast.IndexListExpr:
		return receiverName(e.X)
	}
	return ""
}
