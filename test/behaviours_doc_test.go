package mqtt_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each promise of docs/behaviours.md names tests.
func TestBehavioursTables(t *testing.T) {
	t.Chdir("..") // the root of the module
	rows := 0
	for line := range strings.Lines(readText(t, "docs/behaviours.md")) {
		promise, tests, isRow := behaviourRow(line)
		if !isRow {
			continue
		}
		rows++
		if promise == "" || !namedTest.MatchString(tests) {
			t.Errorf("no test is named: %s", line)
		}
	}
	if rows == 0 {
		t.Error("docs/behaviours.md has no rows")
	}
}

// behaviourRow returns the two cells of a row of docs/behaviours.md.
func behaviourRow(line string) (promise, tests string, isRow bool) {
	cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
	if !strings.HasPrefix(line, "|") || len(cells) != 2 {
		return "", "", false
	}
	promise, tests = strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1])
	return promise, tests, promise != "promise" && !strings.HasPrefix(promise, "---")
}

// namedTest is the name of a test in a document: `TestX` for the root package and
// test/, `directory.TestX` for others.
var namedTest = regexp.MustCompile("`((?:[a-z0-9/]+\\.)?(?:Test|Fuzz|Example|Benchmark)\\w*)`")

// Every test that a document names exists.
func TestNamesOfTestsInDocuments(t *testing.T) {
	t.Chdir("..")
	tests := testFunctions(t, ".")
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(documents, "README.md", "ARCHITECTURE.md", "CHANGELOG.md") {
		for _, n := range namedTest.FindAllStringSubmatch(readText(t, name), -1) {
			if dir, _, nested := strings.Cut(n[1], "."); nested && !isDir(dir) {
				continue // of a nested module, which a download of this one leaves out
			}
			if !tests[n[1]] {
				t.Errorf("%s: there is no test %s", name, n[1])
			}
		}
	}
}
