package broker

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"math"

	"github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// MochiOptions change mochi's settings. The zero value raises the limits at
// which it drops messages; it keeps no sessions over a restart.
type MochiOptions struct {
	// Capabilities, if set, gets the raised capabilities to change before each
	// start.
	Capabilities func(*mqtt.Capabilities)
	// Configure, if set, is called with each new server before it serves, for
	// hooks and for counters read later.
	Configure func(*mqtt.Server) error
}

// StartMochi starts a mochi-mqtt broker in this process.
func StartMochi(tb TB, opts MochiOptions) *Broker {
	tb.Helper()
	dir := tempDir(tb)
	certs, err := NewCertificates(dir)
	if err != nil {
		tb.Fatalf("mochi: %v", err)
	}
	ports, err := freePorts(5)
	if err != nil {
		tb.Fatalf("mochi: %v", err)
	}
	m := &mochi{dir: dir, certs: certs, opts: opts, ports: ports}
	b := &Broker{name: "mochi", versions: Versions(), urls: m.urls(), certs: certs, process: m}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// mochi makes a new server at each start: one that was closed cannot serve again.
type mochi struct {
	dir    string
	certs  *Certificates
	opts   MochiOptions
	ports  []int // tcp, tls, mutual tls, ws, wss
	server *mqtt.Server
}

func (m *mochi) urls() map[Transport]string {
	return map[Transport]string{
		TCP:       "mqtt://" + hostPort(m.ports[0]),
		TLS:       "mqtts://" + hostPort(m.ports[1]),
		MutualTLS: "mqtts://" + hostPort(m.ports[2]),
		WS:        "ws://" + hostPort(m.ports[3]) + "/mqtt",
		WSS:       "wss://" + hostPort(m.ports[4]) + "/mqtt",
		Unix:      "unix://" + socketPath(m.dir),
	}
}

func (m *mochi) start() error {
	m.server = mqtt.New(&mqtt.Options{Capabilities: m.capabilities(), Logger: slog.New(slog.DiscardHandler)})
	if err := m.server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if m.opts.Configure != nil {
		if err := m.opts.Configure(m.server); err != nil {
			return err
		}
	}
	endpoints, err := m.listen()
	if err == nil {
		err = m.server.Serve()
	}
	if err == nil {
		err = waitAccepting(endpoints, nil)
	}
	return err
}

// capabilities raises what would make mochi drop or refuse what a test sends.
func (m *mochi) capabilities() *mqtt.Capabilities {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumClientWritesPending = 1 << 20
	c.MaximumInflight = math.MaxUint16
	c.ReceiveMaximum = math.MaxUint16
	if m.opts.Capabilities != nil {
		m.opts.Capabilities(c)
	}
	return c
}

func (m *mochi) listen() ([]endpoint, error) {
	// AddListener binds but for WebSocket, which binds in Serve. Only there is a
	// probe needed; elsewhere it would be a client to mochi, whose Close races
	// with one that comes and goes.
	var endpoints []endpoint
	add := func(l listeners.Listener, network, address string) error {
		if _, later := l.(*listeners.Websocket); later {
			endpoints = append(endpoints, endpoint{network, address})
		}
		if err := m.server.AddListener(l); err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		return nil
	}
	serverTLS, mutualTLS := m.certs.ServerConfig(false), m.certs.ServerConfig(true)
	for i, config := range []*tls.Config{nil, serverTLS, mutualTLS, nil, serverTLS} {
		address := hostPort(m.ports[i])
		c := listeners.Config{ID: address, Address: address, TLSConfig: config}
		var l listeners.Listener = listeners.NewTCP(c)
		if i >= 3 {
			l = listeners.NewWebsocket(c)
		}
		if err := add(l, "tcp", address); err != nil {
			return nil, err
		}
	}
	path := socketPath(m.dir)
	err := add(listeners.NewUnixSock(listeners.Config{ID: "unix", Address: path}), "unix", path)
	return endpoints, err
}

// stop ends each link with the server's DISCONNECT (on 5.0).
func (m *mochi) stop() error {
	return within(endTimeout, "mochi", m.server.Close)
}

// kill closes the sockets first, so that no DISCONNECT leaves.
func (m *mochi) kill() error {
	for _, client := range m.server.Clients.GetAll() {
		if client.Net.Conn != nil {
			client.Net.Conn.Close()
		}
	}
	return m.stop()
}
