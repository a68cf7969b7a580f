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

// disturbed runs a load through rounds of disturbance and logs its figures. The
// links pass through a proxy that notes what they carry; held is as in lane.count.
func disturbed(t *testing.T, b *broker.Broker, v mqtt.Version, disturb func(c *cutter), held func() map[string]bool) tally {
	t.Helper()
	c := startCutter(t, b.URL(broker.TCP))
	l := startLoad(t, c.url, v)
	for range rounds() {
		l.flows(t)
		disturb(c)
	}
	l.flows(t)
	result := l.finish(t, c.wire, held)
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
		disturbed(t, b, v, func(*cutter) { b.Restart(t) }, nil).check(t, 0)
	})
}

// TestRestartSessionsLost restarts a broker that keeps nothing. What it had taken
// and not delivered is lost with the subscriber's session, and what is published
// before the subscriber has subscribed again reaches no subscription; publishes in flight
// are made anew at QoS 1 and fail at QoS 2.
func TestRestartSessionsLost(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		b, held := startWitness(t)
		disturbed(t, b, v, func(*cutter) { b.Restart(t) }, held).check(t, losesSessions)
	})
}

// TestRestartLinkCut cuts the links while the broker and its sessions live on.
func TestRestartLinkCut(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: 100})
		disturbed(t, b, v, (*cutter).cut, nil).check(t, 0)
	})
}

// TestRestartLinkCutDisorderly does the same to mochi 2.7.9, whose part in it the
// wire tells. When a subscriber takes its session over:
//
//   - It sends again in the order of a map (Inflight.GetAll sorts by the second).
//   - It forgets a message that comes while inheritClientSession has copied
//     Inflight and the new client is not yet known.
//   - It sends one that comes a moment later twice, from Inflight and from the
//     queue, the second time possibly after its PUBREL.
//
// When a publisher does, it forgets a message whose acknowledgement it could not
// write (processPublish gives up, and only the acknowledgement is sent again). On
// 5.0 it answers the second PUBLISH of a QoS 2 message by 0x91, against
// [MQTT-4.3.3-10].
func TestRestartLinkCutDisorderly(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		b, held := startWitness(t)
		disturbed(t, b, v, (*cutter).cut, held).check(t, loses|doubles|disorders|deniesAgain)
	})
}

// startWitness starts a mochi; held returns all that it took until then, as
// "topic payload".
func startWitness(t *testing.T) (b *broker.Broker, held func() map[string]bool) {
	t.Helper()
	journal := filepath.Join(t.TempDir(), "journal")
	return broker.StartMochi(t, broker.MochiOptions{Journal: journal}), func() map[string]bool {
		text, err := os.ReadFile(journal)
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			held[strings.TrimSuffix(line, "\n")] = true
		}
		return held
	}
}
