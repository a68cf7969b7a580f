package broker

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mochiGrace is how long mochi may take to close before its process ends anyway.
const mochiGrace = 3 * time.Second

// ServeMochi is the broker's half of StartMochi: in a process started for that
// it runs the broker and does not return. Elsewhere it does nothing. TestMain
// calls it before anything else.
//
// SIGTERM closes the broker in the orderly way, and ends the process after 3 s
// if that hangs. mochi 2.7.9 can hang there for ever: Clients.GetByListener
// locks for reading what it has locked for reading, which deadlocks with a
// client that is just being added; and Close waits for clients that it does not
// know yet and so has not disconnected.
func ServeMochi() {
	file := os.Getenv(mochiEnv)
	if file == "" {
		return
	}
	if err := serveMochi(file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveMochi(file string) error {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	var settings mochiSettings
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &settings)
	}
	if err != nil {
		return err
	}
	server := mqtt.New(&mqtt.Options{Capabilities: mochiCapabilities(), Logger: slog.New(slog.DiscardHandler)})
	if err := settings.hook(server); err != nil {
		return err
	}
	if err := settings.listen(server); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	<-terminate
	if settings.Tapes != "" {
		if err := writeDrops(settings.Tapes, server); err != nil {
			return err
		}
	}
	return within(mochiGrace, "mochi", server.Close)
}

// mochiCapabilities raises what would make mochi drop or refuse what a test sends.
func mochiCapabilities() *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClientWritesPending = math.MaxUint16 // allocated for each link
	c.MaximumInflight = math.MaxUint16
	c.ReceiveMaximum = math.MaxUint16
	return c
}

func (s *mochiSettings) hook(server *mqtt.Server) error {
	hooks := []mqtt.Hook{new(auth.AllowHook), new(noQuota), &ownIDs{given: map[*mqtt.Client]uint16{}}}
	if s.Journal != "" {
		file, err := os.OpenFile(s.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		hooks = append(hooks, &journal{file: file})
	}
	for _, h := range hooks {
		if err := server.AddHook(h, nil); err != nil {
			return err
		}
	}
	return nil
}

func (s *mochiSettings) listen(server *mqtt.Server) error {
	serverTLS, err := readServerConfig(s.Dir, false)
	if err != nil {
		return err
	}
	mutualTLS, err := readServerConfig(s.Dir, true)
	if err != nil {
		return err
	}
	all := []listeners.Listener{listeners.NewUnixSock(listeners.Config{ID: "unix", Address: socketPath(s.Dir)})}
	for i, config := range []*tls.Config{nil, serverTLS, mutualTLS, nil, serverTLS} {
		address := hostPort(s.Ports[i])
		c := listeners.Config{ID: address, Address: address, TLSConfig: config}
		if i < 3 {
			all = append(all, listeners.NewTCP(c))
		} else {
			all = append(all, listeners.NewWebsocket(c))
		}
	}
	var links atomic.Int64
	for _, l := range all {
		if s.Tapes != "" {
			l = &taped{Listener: l, dir: s.Tapes, count: &links}
		}
		if err := server.AddListener(l); err != nil {
			return fmt.Errorf("listen on %s: %w", l.Address(), err)
		}
	}
	return nil
}

// noQuota switches off the counting of a client's Receive Maximum. With it mochi
// 2.7.9 calls Inflight.NextImmediate after each packet of a 5.0 client, which
// locks for reading what it has locked for reading: with a message that comes
// for that client at the same moment (Inflight.Set) both wait for ever, and soon
// everybody else. A third of the runs of TestRestartSessionsLost ended so on 5.0.
// What waits for the quota it also forgets as soon as it was written. A test that
// may have more than its Receive Maximum in flight raises it.
type noQuota struct{ mqtt.HookBase }

// ID implements mqtt.Hook.
func (*noQuota) ID() string { return "no quota" }

// Provides implements mqtt.Hook.
func (*noQuota) Provides(b byte) bool { return b == mqtt.OnSessionEstablished }

// OnSessionEstablished implements mqtt.Hook. It comes after a session was
// inherited, with its quotas, and before the client's first packet is read.
func (*noQuota) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0)
}

// journal notes every message that mochi takes.
type journal struct {
	mqtt.HookBase
	file *os.File // one write for each line: a kill tears none apart
}

// ID implements mqtt.Hook.
func (*journal) ID() string { return "journal" }

// Provides implements mqtt.Hook.
func (*journal) Provides(b byte) bool { return b == mqtt.OnPublish }

// OnPublish implements mqtt.Hook. mochi acknowledges only after it.
func (j *journal) OnPublish(_ *mqtt.Client, p packets.Packet) (packets.Packet, error) {
	_, err := fmt.Fprintf(j.file, "%s %s\n", p.TopicName, p.Payload)
	return p, err
}
