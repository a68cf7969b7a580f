package mqtt_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRefusalsTable checks that docs/refusals.md has a row for each packet that a
// server can refuse, and that each row names tests, all of which exist.
func TestRefusalsTable(t *testing.T) {
	t.Chdir("..") // the root of the module
	tests := testFunctions(t, ".")
	text, err := os.ReadFile("docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:[a-z0-9/]+\\.)?Test\\w*)`")
	rows := map[string]int{} // by the first cell
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasSuffix(line, "| shown by |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		rows[strings.TrimSpace(cells[0])]++
		names := named.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(names) == 0 {
			t.Errorf("no test is named: %s", line)
		}
		for _, n := range names {
			if dir, _, nested := strings.Cut(n[1], "."); nested && !isDir(dir) {
				continue // of a nested module, which a download of this one leaves out
			}
			if !tests[n[1]] {
				t.Errorf("there is no test %s: %s", n[1], line)
			}
		}
	}
	for _, packet := range []string{"CONNECT", "PUBLISH", "PUBREL", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ", "any"} {
		if rows[packet] == 0 {
			t.Errorf("no row for %s", packet)
		}
	}
}
