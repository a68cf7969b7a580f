package main

import (
	"errors"
	"strings"
	"testing"
)

func TestAbsentToolIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := run(nil, 1, t.Output())
	if err == nil || !strings.Contains(err.Error(), "valgrind git go is absent") {
		t.Errorf("error %v", err)
	}
}

func TestParse(t *testing.T) {
	const printed = "goos: linux\nBenchmarkReader/QoS_0 \t100\t 73.7 ns/msg\t 1632 B/op\t 201 allocs/op\n==7== \n==7== I refs:        1,234,567\n"
	if n, err := parseInstructions(printed); n != 1234567 || err != nil {
		t.Errorf("%d instructions, %v", n, err)
	}
	if n, err := parseAllocations(printed); n != 201 || err != nil {
		t.Errorf("%v allocations, %v", n, err)
	}
	if _, err := parseInstructions("PASS\n"); err == nil {
		t.Error("no count is no error")
	}
	if _, err := parseAllocations("PASS\n"); !errors.Is(err, errNoBenchmark) {
		t.Errorf("no benchmark: %v", err)
	}
}

func TestCompare(t *testing.T) {
	s := scenario{name: "read QoS 0"}
	before := result{true, 1000, 1}
	for _, c := range []struct {
		name  string
		after result
		worse bool
		part  string
	}{
		{"the same", before, false, "+0.00 %"},
		{"within the limit", result{true, 1009, 1}, false, "+0.90 %"},
		{"more instructions", result{true, 1011, 1}, true, "+1.10 %  WORSE"},
		{"more allocations", result{true, 900, 1.03}, true, "-10.00 %  WORSE"},
		{"no benchmark", result{}, false, "no benchmark"},
	} {
		line, worse := compare(s, []result{before, c.after}, 1)
		if worse != c.worse || !strings.Contains(line, c.part) {
			t.Errorf("%s: %v, %q", c.name, worse, line)
		}
	}
}
