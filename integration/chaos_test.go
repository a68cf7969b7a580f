package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/integration/chaos"
	"github.com/millrace/mqtt/internal/chance"
)

// chaosTime is shared by the runs with Mosquitto.
func chaosTime() time.Duration {
	switch {
	case testing.Short():
		return 8 * time.Second
	case chance.Long():
		return 10 * time.Minute
	}
	return time.Minute
}

// chaosRun is one run of package chaos.
type chaosRun struct {
	v    mqtt.Version
	over broker.Transport
}

// TestChaos is the command cmd/chaos for a minute: nothing lost, doubled or out of
// order between processes that are killed, over links that are cut, with a broker
// that stops.
func TestChaos(t *testing.T) {
	inChaos(t, chaos.Mosquitto, chaosTime(), []chaosRun{
		{mqtt.V311, broker.TCP}, {mqtt.V5, broker.TCP}, {mqtt.V5, broker.TLS}, {mqtt.V311, broker.WS},
	})
}

// TestChaosMochi does the same with a broker that is not restarted, for a third of
// the time, but not so short that nothing is killed: mochi does by itself what Mosquitto
// does not, see package chaos.
func TestChaosMochi(t *testing.T) {
	inChaos(t, chaos.Mochi, max(chaosTime()/3, 8*time.Second), []chaosRun{
		{mqtt.V5, broker.TCP}, {mqtt.V311, broker.TCP}, {mqtt.V311, broker.TLS}, {mqtt.V5, broker.WS},
	})
}

// inChaos runs package chaos once for each of runs, which share the time.
func inChaos(t *testing.T, server chaos.Broker, total time.Duration, runs []chaosRun) {
	seed := chance.Seed(t)
	for i, c := range runs {
		t.Run(fmt.Sprintf("%v over %s", c.v, c.over), func(t *testing.T) {
			report, err := chaos.Run(t.Context(), t, chaos.Config{
				Broker: server, Version: c.v, Over: c.over, Duration: total / time.Duration(len(runs)),
				Seed: seed + uint64(i), Refused: true, Dir: t.TempDir(),
			})
			t.Logf("\n%s", &report)
			if err != nil {
				t.Fatal(err)
			}
			if !report.OK() {
				t.Error("a promise was broken; cmd/chaos keeps the wire and the stores of such a run")
			}
		})
	}
}
