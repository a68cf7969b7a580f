package integration

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
)

// TestSessionsExampleTakesNothingTwice runs the example of a kept session again and
// again. Each run goes on with the session of the one before: an order that comes a
// second time stands where a new one is expected.
func TestSessionsExampleTakesNothingTwice(t *testing.T) {
	b := broker.StartMosquitto(t, broker.MosquittoOptions{})
	program := filepath.Join(t.TempDir(), "sessions")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "examples", "sessions")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	runs, twice := chance.Rounds(3, 20), 0
	for range runs {
		out, err := exec.CommandContext(t.Context(), program, "-broker", b.URL(broker.TCP)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var took []string
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "took") {
				took = append(took, strings.TrimSpace(line))
			}
		}
		if want := []string{"took [orders/1]", "took [orders/2 orders/3 orders/4]"}; !slices.Equal(took, want) {
			twice++
			t.Errorf("%q, want %q", took, want)
		}
	}
	t.Logf("took an order twice in %d of %d runs", twice, runs)
}
