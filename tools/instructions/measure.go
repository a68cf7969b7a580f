package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// The lengths, in iterations of a benchmark. GC is off: at the longer one a benchmark
// allocates less than a quarter of a gigabyte.
const (
	short = 100
	long  = 400
)

// errNoBenchmark says that a commit is older than the benchmark.
var errNoBenchmark = errors.New("no such benchmark")

// result is what one message takes; there is none where the benchmark is missing.
type result struct {
	there        bool
	instructions float64
	allocations  float64
}

// measure counts what a message of s takes in a test program.
func measure(program string, s scenario) (result, error) {
	allocations, err := countAllocations(program, s)
	if errors.Is(err, errNoBenchmark) {
		return result{}, nil
	}
	if err != nil {
		return result{}, err
	}
	a, err := countInstructions(program, s, short)
	if err != nil {
		return result{}, err
	}
	b, err := countInstructions(program, s, long)
	if err != nil {
		return result{}, err
	}
	return result{true, float64(b-a) / float64((long-short)*s.messages), allocations / float64(s.messages)}, nil
}

// countAllocations returns the allocations of one iteration.
func countAllocations(program string, s scenario) (float64, error) {
	out, err := benchmark(s, 10*long, program, "-test.benchmem")
	if err != nil {
		return 0, err
	}
	return parseAllocations(out)
}

// countInstructions returns the instructions of a whole run of n iterations.
func countInstructions(program string, s scenario, n int) (int64, error) {
	out, err := benchmark(s, n, "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", program)
	if err != nil {
		return 0, err
	}
	return parseInstructions(out)
}

// benchmark runs a command that ends in a test program, and returns what it prints.
func benchmark(s scenario, n int, name string, args ...string) (string, error) {
	args = append(args, "-test.run", "^$", "-test.cpu", "1", "-test.bench", s.bench, "-test.benchtime", fmt.Sprint(n, "x"))
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GOGC=off", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return string(out), nil
}

var (
	refs   = regexp.MustCompile(`I\s+refs:\s+([0-9,]+)`)
	allocs = regexp.MustCompile(`([0-9.]+) allocs/op`)
)

// parseInstructions reads the count from what cachegrind prints.
func parseInstructions(out string) (int64, error) {
	m := refs.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("valgrind printed no count:\n%s", out)
	}
	return strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
}

// parseAllocations reads the allocations of an iteration from what a benchmark prints.
func parseAllocations(out string) (float64, error) {
	m := allocs.FindStringSubmatch(out)
	if m == nil {
		return 0, errNoBenchmark
	}
	return strconv.ParseFloat(m[1], 64)
}

// compare returns the line of one scenario, and whether the second result is worse than
// the first by more than limit percent.
func compare(s scenario, results []result, limit float64) (line string, worse bool) {
	line = fmt.Sprintf("%-14s", s.name)
	for _, r := range results {
		if !r.there {
			line += "   no benchmark          "
			continue
		}
		line += fmt.Sprintf(" %9.1f instructions %6.2f allocations", r.instructions, r.allocations)
	}
	if len(results) < 2 || !results[0].there || !results[1].there {
		return line, false
	}
	before, after := results[0], results[1]
	change := 100 * (after.instructions/before.instructions - 1)
	line += fmt.Sprintf("  %+.2f %%", change)
	if change > limit || after.allocations > before.allocations+0.02 { // slabs and tables grow now and then
		return line + "  WORSE", true
	}
	return line, false
}
