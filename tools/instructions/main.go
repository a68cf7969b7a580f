// Instructions counts the machine instructions that a message takes, where wall time on
// a shared machine would say little: it runs the benchmarks of the root package under
// valgrind's cachegrind at two lengths, and divides the difference by the messages
// between them. What a benchmark sets up is in both and cancels out. Repeats lie within
// 0.3 %. Run it at the root of the repository:
//
//	go run ./tools/instructions                   # the files as they are
//	go run ./tools/instructions main              # main beside the files as they are
//	go run ./tools/instructions v0.1.0 v0.2.0     # one commit beside another
//
// Commits are built in git worktrees that are removed again. It needs valgrind and git.
// It exits 1 if a message takes more than -limit percent more instructions after than
// before, or more allocations.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

func main() {
	limit := flag.Float64("limit", 1, "percent more instructions that are still good")
	flag.Parse()
	bad, err := run(flag.Args(), *limit, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "instructions:", err)
	}
	if err != nil || bad {
		os.Exit(1)
	}
}

// scenario is one benchmark, and how many messages one iteration of it moves.
type scenario struct {
	name     string
	bench    string
	messages int
}

var scenarios = []scenario{
	{"read QoS 0", "^BenchmarkReader$/^QoS_0$", 200},
	{"read QoS 1", "^BenchmarkReader$/^QoS_1$", 200},
	{"read QoS 2", "^BenchmarkReader$/^QoS_2$", 200},
	{"publish QoS 0", "^BenchmarkPublish$/^QoS_0$", 100},
	{"publish QoS 1", "^BenchmarkPublish$/^QoS_1$", 100},
	{"publish QoS 2", "^BenchmarkPublish$/^QoS_2$", 100},
}

// run measures what args name and writes the table. bad reports whether a figure is
// beyond the limit.
func run(args []string, limit float64, w io.Writer) (bad bool, err error) {
	if len(args) > 2 {
		return false, fmt.Errorf("want two commits at most, got %d", len(args))
	}
	if err := needTools("valgrind", "git", "go"); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "instructions")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	sides, err := buildSides(args, dir)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(w, "%s, %s\n", runtime.Version(), strings.Join(names(sides), " -> "))
	for _, s := range scenarios {
		var rows []result
		for _, side := range sides {
			r, err := measure(side.program, s)
			if err != nil {
				return false, fmt.Errorf("%s, %s: %w", side.name, s.name, err)
			}
			rows = append(rows, r)
		}
		line, worse := compare(s, rows, limit)
		fmt.Fprintln(w, line)
		bad = bad || worse
	}
	return bad, nil
}

// needTools returns an error that names every tool that is absent.
func needTools(tools ...string) error {
	var absent []string
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			absent = append(absent, t)
		}
	}
	if len(absent) > 0 {
		return fmt.Errorf("%s is absent: install it (on Debian: apt-get install %[1]s)", strings.Join(absent, " "))
	}
	return nil
}
