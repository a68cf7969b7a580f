package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// house writes files as a package of a module of its own, and judges it by the table.
func house(t *testing.T, floors string, files map[string]string, moves string) *report {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module house\n\ngo 1.26\n"
	for name, text := range files {
		if strings.HasSuffix(name, ".go") {
			text = "package house\n\n" + text
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tab, err := parseTable(floors)
	if err != nil {
		t.Fatal(err)
	}
	p, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.move(moves); err != nil {
		t.Fatal(err)
	}
	if err := tab.covers(p.files()); err != nil {
		t.Fatal(err)
	}
	return judge(p, tab)
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

const twoFloors = "floor up: up.go\nfloor down: down.go\n"

func TestCirclesOfDeclarationsAndFiles(t *testing.T) {
	files := map[string]string{
		"up.go":   "type conn struct{ l *link }\nfunc (c *conn) open() { c.l.run() }\nfunc helper() {}\n",
		"down.go": "type link struct{ c *conn }\nfunc (l *link) run() { l.c.open() }\nfunc free() { helper() }\n",
	}
	r := house(t, twoFloors, files, "")
	if got := fmt.Sprint(r.decls.circles(), r.files.circles()); got != "[[conn link]] [[down.go up.go]]" {
		t.Error(got)
	}
	if r.nDecls != 4 || r.nFiles != 2 {
		t.Errorf("%d declarations, %d files", r.nDecls, r.nFiles)
	}
}

func TestNamesOfAHigherFloorAreBreaks(t *testing.T) {
	files := map[string]string{
		"up.go":   "type conn struct{ n int }\nfunc (c *conn) open() { low() }\n",
		"down.go": "func low() {}\nfunc reach(c *conn) { c.open(); c.n++ }\n",
	}
	r := house(t, twoFloors, files, "")
	want(t, "breaks", r.breaks, []string{"down.go (down) -> up.go (up): conn conn.n conn.open"})
	if len(r.over(&table{})) == 0 {
		t.Error("a break is within the limits of a table without any")
	}
	r = house(t, twoFloors, files, "reach=up.go")
	want(t, "breaks after the move", r.breaks, nil)
}

func TestNamesOutsideTheirFiles(t *testing.T) {
	files := map[string]string{
		"up.go":   "type conn struct{}\nfunc (c *conn) open() {}\n",
		"down.go": "func use(x interface{ open() }) {}\nvar _ = func() { use(&conn{}) }\n",
	}
	r := house(t, twoFloors+"only conn: up.go\n", files, "")
	want(t, "outside", r.outside, []string{"conn in down.go (_)"})
}

func TestPureFilesImportNoClock(t *testing.T) {
	files := map[string]string{
		"up.go":   "import \"time\"\nvar now = time.Now\n",
		"down.go": "import \"time\"\nvar later = time.Now\n",
	}
	r := house(t, twoFloors+"pure down.go: time net\n", files, "")
	want(t, "impure", r.impure, []string{"down.go imports time"})
}

func TestCirclesAcrossFloors(t *testing.T) {
	files := map[string]string{
		"up.go":   "type conn struct{ l *link }\nfunc (l *link) run(c *conn) {}\n",
		"down.go": "type link struct{}\ntype a struct{ *b }\ntype b struct{ *a }\n",
		"mid.go":  "func even() { odd() }\nfunc odd() { even() }\n",
	}
	r := house(t, "floor up: up.go\nfloor down: down.go mid.go\n", files, "")
	want(t, "across", r.across, []string{"up down: conn link"})
	want(t, "breaks", r.breaks, nil)
	r = house(t, "floor up: up.go\nfloor down: down.go mid.go\n", files, "b=mid.go")
	want(t, "across, with a circle of files on one floor", r.across, []string{"up down: conn link"})
	r = house(t, "floor up: up.go mid.go\nfloor down: down.go\n", files, "odd=down.go")
	want(t, "across, of files", r.across, []string{
		"up down: down.go mid.go", "up down: conn link", "up down: even odd",
	})
}

func TestWalls(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pulse/pulse.go":      "package pulse\nimport (\n\"time\"\n\"house/codec\"\n\"net/http\"\n)\nvar a, b = time.Now, time.Second\n",
		"pulse/other.go":      "package pulse\nimport clock \"time\"\nvar c = clock.AfterFunc\n",
		"pulse/pulse_test.go": "package pulse\nimport \"net\"\n",
		"match/trie.go":       "package match\nimport \"house\"\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tab, err := parseTable("wall pulse: time codec\nwall match:\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := walls(dir, "house", tab)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "breaches", got, []string{
		"match/trie.go imports house", "pulse/other.go asks time.AfterFunc", "pulse/pulse.go imports net/http", "pulse/pulse.go asks time.Now",
	})
	tab.walls["gone"] = nil
	if _, err := walls(dir, "house", tab); err == nil || !strings.Contains(err.Error(), "gone has a wall") {
		t.Errorf("a wall around nothing: %v", err)
	}
}

func TestFiguresBetterThanTheirLimits(t *testing.T) {
	r := &report{decls: graph{}, files: graph{}}
	want(t, "under", r.under(&table{limits: map[string]int{"declarations": 1, "hooks": 2}}), []string{"hooks: 0, limit 2"})
}

func TestHooksUp(t *testing.T) {
	files := map[string]string{
		"up.go": `type conn struct{ l *link }
func (c *conn) died() {}
func (c *conn) seen() {}
func newConn() *conn {
	c := &conn{l: newLink((&conn{}).seen, nil)}
	c.l.kill = func() { c.died() }
	c.l.own = c.l.run
	c.l.home = c
	c.l.self = c.l
	c.l.stop = after(func() { c.died() })
	return c
}
`,
		"down.go": `type home interface{ died() }
type link struct {
	kill, own, stop, got func()
	home      home
	self      interface{ run() }
}
func (l *link) run() {}
func after(f func()) func() { return f }
func newLink(f func(), unused func()) *link { return &link{got: f} }
`,
	}
	r := house(t, twoFloors, files, "")
	want(t, "hooks", r.hooks, []string{
		"link.got (down.go) calls conn.seen", "link.home (down.go) is a conn", "link.kill (down.go) calls conn.died",
	})
	r = house(t, twoFloors+"test up.go\n", files, "")
	want(t, "hooks given by tests alone", r.hooks, nil)
}

func TestHooksUpByOtherWays(t *testing.T) {
	files := map[string]string{
		"up.go": `type conn struct{}
func (c *conn) died() {}
func newConn() {
	c := &conn{}
	f := c.died
	l := &link{f, nil, nil, nil}
	l.all = append(l.all, c.died)
	l.home = wrap(c)
	l.set(c)
	atEnd = c.died
	l.each(c.died)
}
func wrap(c *conn) home { return c }
`,
		"down.go": `type home interface{ died() }
type link struct {
	local func()
	all   []func()
	home  home
	param home
}
var atEnd func()
func (l *link) set(h home) { l.param = h }
func (l *link) each(f func()) { f() }
`,
	}
	r := house(t, twoFloors, files, "")
	want(t, "hooks", r.hooks, []string{
		"atEnd (down.go) calls conn.died", "link.all (down.go) calls conn.died", "link.home (down.go) is a conn",
		"link.local (down.go) calls conn.died", "link.param (down.go) is a conn",
	})
}

func TestTypesFunctionsAndFilesThatAreTooLarge(t *testing.T) {
	files := map[string]string{"a.go": "type wide struct{}\nfunc long() {\n" + strings.Repeat("\tprintln()\n", 59) + "}\n"}
	floors := "floor all: a.go"
	for _, f := range []string{"b", "c", "d", "e", "f", "g"} {
		files[f+".go"] = "func (wide) " + f + "() {}\n" + strings.Repeat("\n", 496)
		floors += " " + f + ".go"
	}
	files["g.go"] += "\n\n"
	r := house(t, floors, files, "")
	want(t, "spread", r.wide, []string{"wide 6 methods in 6 files: b.go c.go d.go e.go f.go g.go"})
	want(t, "functions", r.long, []string{"long has 61 lines"})
	want(t, "lines", r.large, []string{"g.go has 501 lines"})
	if over := r.over(&table{limits: map[string]int{"spread": 1, "functions": 1, "lines": 1, "declarations": 1, "files": 1}}); over != nil {
		t.Errorf("beyond the recorded figures: %q", over)
	}
}

func TestTableThatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"floor a: x.go\nfloor b:\n\tx.go", "x.go stands on two floors"},
		{"limit files many", "invalid syntax"},
		{"room a: x.go", "neither floor"},
		{"floor a:", "too few words"},
	} {
		if _, err := parseTable(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	tab, err := parseTable("floor a: x.go # the first\n\ty.go\n")
	if err != nil {
		t.Fatal(err)
	}
	err = tab.covers([]string{"x.go", "z.go"})
	if err == nil || !strings.Contains(err.Error(), "z.go has no floor") || !strings.Contains(err.Error(), "y.go is not in the package") {
		t.Error(err)
	}
}
