// Floors says what depends on what in the root package, so that a reader can rely on
// the rooms that ARCHITECTURE.md names: which files know nothing of which others, how
// many declarations and files reach each other in a circle, and which types are spread
// over many files.
//
//	go run ./tools/floors                    # print the figures, exit 1 beyond a limit
//	go run ./tools/floors -uses              # also every use between two files
//	go run ./tools/floors -move done=acks.go,ledger.drop=acks.go   # the figures as if
//
// The floors and the limits stand in floors.txt beside this program.
//
// A declaration is a type with all of its methods, a function, a variable or a
// constant. It uses another when an identifier in it, of whichever method, refers to
// it, to its method or to its field. A file uses another when a declaration or a method
// in it does. Test files, and files for other systems than the one that it runs on, are
// left out.
//
// A hook up is a place by which a lower floor calls a higher one without naming it: a
// struct field or a package variable, of the package itself, that counts once if
//
//   - it is of a function type, or holds such in a slice, map or channel, and is given,
//     anywhere, a function that refers to something of a higher floor than its own file's;
//   - or it is of an interface type other than error, or holds such, and is given a value
//     of a type that stands on a higher floor.
//
// What it is given is followed through parameters and variables of functions, through
// append and conversions, and for interfaces through what functions return. Functions
// that a function returns are not followed, nor are parameters themselves counted: a
// callback that ends before its caller goes on is no hook. What the files marked "test"
// give is left out.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	dir := flag.String("dir", ".", "directory of the package")
	table := flag.String("table", "", "table of floors and limits (default tools/floors/floors.txt in the directory)")
	uses := flag.Bool("uses", false, "print every use between two files")
	moves := flag.String("move", "", "declarations to count as if they stood elsewhere: Name=file.go,Type.method=file.go,...")
	flag.Parse()
	if *table == "" {
		*table = filepath.Join(*dir, "tools", "floors", "floors.txt")
	}
	ok, err := run(*dir, *table, *moves, *uses)
	if err != nil {
		fmt.Fprintln(os.Stderr, "floors:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run prints the figures of the package in dir, and reports whether they are within
// the limits.
func run(dir, table, moves string, uses bool) (ok bool, err error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return false, err
	}
	t, err := parseTable(string(text))
	if err != nil {
		return false, fmt.Errorf("%s: %w", table, err)
	}
	p, err := load(dir)
	if err != nil {
		return false, err
	}
	if err := p.move(moves); err != nil {
		return false, err
	}
	covers := t.covers
	if moves != "" { // which may leave a file empty
		covers = t.floorless
	}
	if err := covers(p.files()); err != nil {
		return false, fmt.Errorf("%s: %w", table, err)
	}
	r := judge(p, t)
	breached, err := walls(dir, p.PkgPath, t)
	if err != nil {
		return false, err
	}
	r.impure = append(r.impure, breached...)
	if uses {
		r.printUses(os.Stdout)
	}
	r.print(os.Stdout)
	over := r.over(t)
	for _, o := range over {
		fmt.Printf("beyond the limit: %s\n", o)
	}
	for _, u := range r.under(t) {
		fmt.Printf("better than the limit: lower it in floors.txt: %s\n", u)
	}
	return len(over) == 0, nil
}

// list joins names for one line of output.
func list(names []string) string { return strings.Join(names, " ") }
