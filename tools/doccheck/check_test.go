package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoccheck(t *testing.T) {
	const header = "// Package p is documented.\npackage p\n"
	tests := []struct {
		name  string
		files map[string]string
		want  []string // one fragment per finding, in order
	}{
		{"documented", map[string]string{"doc.go": header, "a.go": "package p\n\n// F does.\nfunc F() {}\n"}, nil},
		{"no doc.go", map[string]string{"a.go": header}, []string{"no doc.go"}},
		{"func", map[string]string{"doc.go": header, "a.go": "package p\n\nfunc F() {}\n"}, []string{"func F"}},
		{"method", map[string]string{"doc.go": header, "a.go": "package p\n\n// T is.\ntype T struct{}\n\nfunc (*T) M() {}\n"}, []string{"method T.M"}},
		{"generic method", map[string]string{"doc.go": header, "a.go": "package p\n\n// T is.\ntype T[E any] struct{}\n\nfunc (T[E]) M() {}\n"}, []string{"method T.M"}},
		{"method of a local type", map[string]string{"doc.go": header, "a.go": "package p\n\ntype t struct{}\n\nfunc (t) String() string { return \"\" }\n"}, nil},
		{"grouped constants share a comment", map[string]string{"doc.go": header, "a.go": "package p\n\n// Kinds.\nconst (\n\tA = 1\n\tB = 2\n)\n"}, nil},
		{"bare constant", map[string]string{"doc.go": header, "a.go": "package p\n\nconst A = 1\n"}, []string{"const A"}},
		{"grouped types need their own", map[string]string{"doc.go": header, "a.go": "package p\n\n// Types.\ntype (\n\tA int\n)\n"}, []string{"type A"}},
		{"fields", map[string]string{"doc.go": header, "a.go": "package p\n\n// T is.\ntype T struct {\n\t// A and B are a pair.\n\tA int\n\tB int\n\n\tC int\n\td int\n}\n"}, []string{"field T.C"}},
		{"interface methods", map[string]string{"doc.go": header, "a.go": "package p\n\n// T is.\ntype T interface {\n\tM()\n}\n"}, []string{"method T.M"}},
		{"main, internal, tests and nested modules", map[string]string{
			"main.go": "package main\n\nfunc F() {}\n", "internal/x/a.go": "package x\n\nfunc F() {}\n",
			"a_test.go": "package main\n\nfunc F() {}\n", "nested/go.mod": "module n\n", "nested/a.go": "package n\n\nfunc F() {}\n",
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				writeFile(t, filepath.Join(dir, name), text)
			}
			var out, errs bytes.Buffer
			code := run([]string{dir}, &out, &errs)
			if wantCode := min(len(tt.want), 1); code != wantCode {
				t.Errorf("exit code %d, want %d; %s", code, wantCode, errs.String())
			}
			lines := strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' })
			if len(lines) != len(tt.want) {
				t.Fatalf("findings %q, want %d", lines, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("finding %q does not name %q", lines[i], want)
				}
			}
		})
	}
}

func TestDoccheckSyntaxError(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.go"), "package p\nfunc {")
	if code := run([]string{dir}, &bytes.Buffer{}, &bytes.Buffer{}); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
