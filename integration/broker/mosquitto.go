package broker

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
)

// MosquittoOptions change Mosquitto's settings. The zero value keeps what a
// client was acknowledged: persistence saved on Stop, no limit on queued
// messages.
type MosquittoOptions struct {
	// NoPersistence starts without a store: a restart loses all sessions.
	NoPersistence bool
	// MaxInflight is max_inflight_messages per client, which is the Receive
	// Maximum on 5.0; 0 leaves Mosquitto's default (20), -1 means no limit.
	MaxInflight int
	// MaxQueued is max_queued_messages; 0 means no limit.
	MaxQueued int
	// MessageSizeLimit is message_size_limit in bytes; 0 means no limit.
	MessageSizeLimit int
	// Extra are further lines of the configuration, put before the listeners.
	Extra []string
}

// StartMosquitto starts the mosquitto program from PATH (or /usr/sbin) with
// listeners for every transport the build supports. Without the program the test
// is skipped, or fails where RequireEnv lists "mosquitto".
func StartMosquitto(tb TB, opts MosquittoOptions) *Broker {
	tb.Helper()
	path, err := findProgram("mosquitto")
	if err != nil {
		missing(tb, "mosquitto", err)
	}
	dir := tempDir(tb)
	certs, err := NewCertificates(dir)
	if err != nil {
		tb.Fatalf("mosquitto: %v", err)
	}
	m := &mosquitto{path: path, dir: dir, certs: certs, opts: opts, websockets: true}
	if err := m.firstStart(); err != nil {
		tb.Fatalf("mosquitto: start: %v", err)
	}
	b := &Broker{name: "mosquitto", versions: Versions(), urls: m.urls(), certs: certs, process: m, running: true}
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// mosquitto is one Mosquitto, started any number of times on one configuration.
type mosquitto struct {
	path, dir  string
	certs      *Certificates
	opts       MosquittoOptions
	websockets bool
	ports      []int // tcp, tls, mutual tls, ws, wss

	program *program
}

// firstStart finds ports, and whether the build has websockets.
func (m *mosquitto) firstStart() error {
	for try := 1; ; try++ {
		ports, err := freePorts(5)
		if err != nil {
			return err
		}
		m.ports = ports
		err = m.start()
		switch {
		case err == nil:
			return nil
		case m.websockets && strings.Contains(err.Error(), "ebsockets support not available"):
			m.websockets = false
		case try < 3 && strings.Contains(err.Error(), "Address already in use"):
			// Another process took a port since it was found free.
		default:
			return err
		}
	}
}

func (m *mosquitto) start() error {
	config := filepath.Join(m.dir, "mosquitto.conf")
	if err := os.WriteFile(config, []byte(m.config()), 0o600); err != nil {
		return err
	}
	program, err := startProgram("mosquitto", exec.Command(m.path, "-c", config))
	if err != nil {
		return err
	}
	m.program = program
	endpoints := []endpoint{{"unix", socketPath(m.dir)}}
	for _, port := range m.openPorts() {
		endpoints = append(endpoints, endpoint{"tcp", hostPort(port)})
	}
	return program.waitAccepting(endpoints)
}

func (m *mosquitto) stop() error { return m.program.end(syscall.SIGTERM) }
func (m *mosquitto) kill() error { return m.program.end(syscall.SIGKILL) }

func (m *mosquitto) openPorts() []int {
	if m.websockets {
		return m.ports
	}
	return m.ports[:3]
}

func (m *mosquitto) urls() map[Transport]string {
	urls := map[Transport]string{
		TCP:       "mqtt://" + hostPort(m.ports[0]),
		TLS:       "mqtts://" + hostPort(m.ports[1]),
		MutualTLS: "mqtts://" + hostPort(m.ports[2]),
		Unix:      "unix://" + socketPath(m.dir),
	}
	if m.websockets {
		urls[WS] = "ws://" + hostPort(m.ports[3]) + "/mqtt"
		urls[WSS] = "wss://" + hostPort(m.ports[4]) + "/mqtt"
	}
	return urls
}

func (m *mosquitto) config() string {
	var c strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&c, format+"\n", args...) }
	line("allow_anonymous true")
	line("log_dest stderr")
	line("sys_interval 1")
	if u, err := user.Current(); err == nil {
		// Started as root it would change to a user that cannot read our files.
		line("user %s", u.Username)
	}
	if !m.opts.NoPersistence {
		line("persistence true")
		line("persistence_location %s/", m.dir)
	}
	line("max_queued_messages %d", m.opts.MaxQueued)
	switch {
	case m.opts.MaxInflight > 0:
		line("max_inflight_messages %d", m.opts.MaxInflight)
	case m.opts.MaxInflight < 0:
		line("max_inflight_messages 0")
	}
	line("message_size_limit %d", m.opts.MessageSizeLimit)
	for _, extra := range m.opts.Extra {
		line("%s", extra)
	}
	tls := fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s", m.certs.CAFile, m.certs.ServerFile, m.certs.ServerKeyFile)
	line("listener %d 127.0.0.1", m.ports[0])
	line("listener %d 127.0.0.1\n%s", m.ports[1], tls)
	line("listener %d 127.0.0.1\n%s\nrequire_certificate true", m.ports[2], tls)
	if m.websockets {
		line("listener %d 127.0.0.1\nprotocol websockets", m.ports[3])
		line("listener %d 127.0.0.1\nprotocol websockets\n%s", m.ports[4], tls)
	}
	line("listener 0 %s", socketPath(m.dir))
	return c.String()
}
