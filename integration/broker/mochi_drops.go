package broker

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/mochi-mqtt/server/v2"
)

// Drops is what a mochi dropped at its limits, by its own counters.
type Drops struct {
	Messages int64 // for a link with MaximumClientWritesPending to be written
	Inflight int64 // for a session with MaximumInflight in flight, or no identifier left
}

func dropsPath(dir string) string { return filepath.Join(dir, "drops.json") }

// ReadDrops returns what a mochi left in the directory of its tapes when it was
// stopped. The error says that there is nothing, or nothing that can be read.
func ReadDrops(dir string) (d Drops, err error) {
	text, err := os.ReadFile(dropsPath(dir))
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	return d, err
}

func writeDrops(dir string, server *mqtt.Server) error {
	info := server.Info.Clone()
	text, err := json.Marshal(Drops{info.MessagesDropped, info.InflightDropped})
	if err != nil {
		return err
	}
	return os.WriteFile(dropsPath(dir), text, 0o600)
}
