package chaos

import (
	"fmt"
	"io"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// Config says what Run is to do.
type Config struct {
	Broker   Broker           // "" for Mosquitto
	Version  mqtt.Version     // the only one that both children speak
	Over     broker.Transport // TCP, TLS, WS or WSS
	Duration time.Duration    // of the faults; what is in flight then is waited for
	Seed     uint64           // of the faults
	Refused  bool             // the receiver subscribes, now and then, to a filter at which Mosquitto cuts the link
	Dir      string           // an empty directory, on a disk rather than in memory
	Progress io.Writer        // gets a line every 5 s; nil for none
}

// Broker is what the clients connect to.
type Broker string

const (
	// Mosquitto is restarted now and then, and keeps what it has.
	Mosquitto Broker = "mosquitto"
	// Mochi would lose all sessions with a restart, so it has none. What it loses,
	// doubles or puts out of order by itself is counted apart.
	Mochi Broker = "mochi"
)

const (
	// patience is how long what must happen may take once the faults are over.
	patience = 90 * time.Second
	// progressEvery is the time between lines of progress.
	progressEvery = 5 * time.Second
	// lull is how long nothing may arrive behind the end marks before it is over.
	// mochi may send them again before what was published earlier.
	lull = 500 * time.Millisecond
	// pollEvery is the time between looks at what the processes noted, and with
	// that how exact the longest recovery is.
	pollEvery = 20 * time.Millisecond
)

// lanes are the streams of messages, one for each QoS with a promise.
var lanes = [...]mqtt.QoS{1, 2}

// topic returns the topic of a lane.
func topic(lane int) string { return fmt.Sprintf("chaos/%d", lanes[lane]) }

// endMark is the number of a lane's last message.
const endMark = -1

// number numbers the messages of a lane: those of a later process are higher, so
// that it needs to know nothing of how far an earlier one came.
func number(incarnation, n int) int { return incarnation<<32 | n }
