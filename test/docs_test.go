package mqtt_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/mqtt/mqtttest/server"
)

// Every option has its row in docs/options.md, and every call that a user can
// wait on, or wonder about, its row in docs/blocking.md.
func TestDocsAreComplete(t *testing.T) {
	t.Chdir("..") // the root of the module
	options, blocking := readText(t, "docs/options.md"), readText(t, "docs/blocking.md")
	for _, f := range exportedFunctions(t) {
		name := f.Name.Name
		switch {
		case f.Recv == nil && strings.HasPrefix(name, "With"):
			if !strings.Contains(options, "`"+name+"`") {
				t.Errorf("docs/options.md lacks %s", name)
			}
		case f.Recv != nil && waitable[receiver(f)]:
			if !strings.Contains(blocking, name) {
				t.Errorf("docs/blocking.md lacks %s.%s", receiver(f), name)
			}
		}
	}
}

// waitable are the types whose methods docs/blocking.md tells of.
var waitable = map[string]bool{"Conn": true, "Future": true, "Subscription": true, "TypedSubscription": true}

// receiver is the name of the type that a method is of.
func receiver(f *ast.FuncDecl) string {
	e := f.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if generic, ok := e.(*ast.IndexExpr); ok {
		e = generic.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

func exportedFunctions(t *testing.T) (all []*ast.FuncDecl) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.IsExported() {
				all = append(all, f)
			}
		}
	}
	return all
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The program of README.md runs, and prints what it says.
func TestREADMEProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and starts a program, which is the same on every machine")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	t.Chdir("..") // the root of the module
	program := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindStringSubmatch(readText(t, "README.md"))
	if program == nil {
		t.Fatal("README.md has no whole program")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := server.New(server.Config{})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }() // ends with srv
	defer func() { srv.Close(); <-served }()

	text := strings.Replace(program[1], "localhost:1883", ln.Addr().String(), 1)
	cmd := exec.Command("go", "run", "-overlay", overlay(t, "readme_program/main.go", text), "./readme_program")
	out, err := cmd.CombinedOutput()
	if want := "plant/7/temp: 21.5\npublish: <nil>\n"; err != nil || string(out) != want {
		t.Errorf("%v, output:\n%swant:\n%s", err, out, want)
	}
}

// overlay makes the go command see a file that is not there, so that a program
// is built inside this module without a trace in it.
func overlay(t *testing.T, name, text string) string {
	t.Helper()
	at, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source, list := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]map[string]string{"Replace": {at: source}})
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{source: []byte(text), list: b} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return list
}
