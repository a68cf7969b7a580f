package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// rounds is how often a load is disturbed: 20 times with MILLRACE_LONG=1, a
// fifth of that in CI.
func rounds() int {
	if os.Getenv("MILLRACE_LONG") == "1" {
		return 20
	}
	return 4
}

// inRestartVersions runs test in the versions in common use.
func inRestartVersions(t *testing.T, test func(t *testing.T, v mqtt.Version)) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) { test(t, v) })
	}
}

// disturbed runs a load through rounds of disturbance and logs its figures.
func disturbed(t *testing.T, url string, v mqtt.Version, disturb func(), held func() map[string]bool) tally {
	t.Helper()
	l := startLoad(t, url, v)
	for range rounds() {
		l.flows(t)
		disturb()
	}
	l.flows(t)
	result := l.finish(t, held)
	t.Logf("disturbed %d times\n%s", rounds(), result)
	if got := int(result.links) - 1; got < rounds() {
		t.Errorf("%d links lost, want %d: not every disturbance was one", got, rounds())
	}
	return result
}

// TestRestartSessionsKept restarts a broker that saves its sessions: nothing
// with a nil Future is lost at QoS 1 and 2.
func TestRestartSessionsKept(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: 100})
		disturbed(t, b.URL(broker.TCP), v, func() { b.Restart(t) }, nil).check(t, true)
	})
}

// TestRestartSessionsLost restarts a broker that keeps nothing. What it had taken
// and not delivered is lost with the subscriber's session, and what is published
// before the subscriber has subscribed again reaches nobody; publishes under way
// are made anew at QoS 1 and fail at QoS 2 ("decided" 7).
func TestRestartSessionsLost(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		journal := filepath.Join(t.TempDir(), "journal")
		b := broker.StartMochi(t, broker.MochiOptions{Journal: journal})
		disturbed(t, b.URL(broker.TCP), v, func() { b.Restart(t) }, func() map[string]bool {
			text, err := os.ReadFile(journal)
			if err != nil {
				t.Fatal(err)
			}
			held := map[string]bool{}
			for line := range strings.Lines(string(text)) {
				held[strings.TrimSuffix(line, "\n")] = true
			}
			return held
		}).check(t, false)
	})
}

// TestRestartLinkCut cuts the links while the broker and its sessions live on.
func TestRestartLinkCut(t *testing.T) {
	b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: 100})
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		c := startCutter(t, b.URL(broker.TCP))
		disturbed(t, c.url, v, c.cut, nil).check(t, true)
	})
}
