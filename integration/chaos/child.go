package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/store/bolt"
	"github.com/millrace/mqtt/transport"
)

// childEnv holds the settings of a process that is started as a child.
const childEnv = "MILLRACE_CHAOS"

// settings is what a child is told.
type settings struct {
	Role        string // "publisher" or "receiver"
	Incarnation int    // 1 for the first process in that role
	Version     mqtt.Version
	URL         string // of the proxy
	CAFile      string // PEM; "" without TLS
	Dir         string
	Refused     bool // the receiver subscribes to what Mosquitto refuses, now and then

	asking  atomic.Bool // it does so now
	leaving atomic.Bool // it does so no more
}

// Serve is the child's half of Run: in a process started for that it publishes
// or receives and does not return. Elsewhere it does nothing. Whoever calls Run
// calls it before anything else in main or TestMain.
func Serve() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	if err := serve(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	told := readOrders(os.Stdin) // the parent closes our input to end us when all is done, or dies
	sessions, err := bolt.Open(storePath(s.Dir, s.Role))
	if err != nil {
		return err
	}
	work := s.receive
	if s.Role == "publisher" {
		work = s.publish
	}
	if err := work(told, sessions); err != nil {
		return err
	}
	return sessions.Close()
}

// receiveMaximum is never reached. Mosquitto 2.0.11 sends more than
// max_inflight_messages and the Receive Maximum allow, and what is beyond in
// another order than that of the identifiers it gave: with a limit of 100 up to
// 1,802 were in flight in 3.1.1, and with 1,024 up to 2,367 in 5.0.
const receiveMaximum = 65535

func clientID(role string) string       { return "chaos-" + role }
func storePath(dir, role string) string { return filepath.Join(dir, role+".db") }

// connect makes a Conn whose session is in the store and outlives its links, with a
// will. It does not wait for the server, which may be down.
func (s *settings) connect(ctx context.Context, sessions *bolt.Store, opts ...mqtt.ConnectOption) (*mqtt.Conn, error) {
	will := mqtt.Message{Topic: willTopic(s.Role, s.Incarnation), Payload: []byte(gone), QoS: 1}
	opts = append(opts,
		mqtt.WithVersions(s.Version), mqtt.WithClientID(clientID(s.Role)), mqtt.WithSession(time.Hour),
		mqtt.WithStore(sessions), mqtt.WithStoreMemory(64<<10),
		mqtt.WithFirstConnect(mqtt.FirstConnectBackground),
		mqtt.WithBackoff(backoff.Exponential{Base: 20 * time.Millisecond, Max: 200 * time.Millisecond}),
		mqtt.WithReceiveMaximum(receiveMaximum), mqtt.WithWill(mqtt.Will{Message: will}),
		// What finds a link that is only half there.
		mqtt.WithKeepAlive(2*time.Second), mqtt.WithPingTimeout(time.Second), mqtt.WithConnectTimeout(2*time.Second),
		mqtt.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
	)
	if s.CAFile != "" {
		config, err := transport.LoadTLS(transport.TLSFiles{CA: s.CAFile})
		if err != nil {
			return nil, err
		}
		opts = append(opts, mqtt.WithTLS(config))
	}
	return mqtt.Connect(ctx, s.URL, opts...)
}
