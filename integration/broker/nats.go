package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions change nats-server's settings. The zero value offers MQTT 3.1.1
// over tcp and ws with payloads up to 8 MiB; sessions live in JetStream's files
// and outlive a restart.
type NATSOptions struct {
	// TLS makes the listeners tls and wss instead: nats-server has one listener
	// of a kind.
	TLS bool
	// AckWait is the time after which an un-acked message is sent again on the
	// live link; 0 means nats-server's 30 s.
	AckWait time.Duration
	// MaxAckPending is the number of un-acked messages of a subscription; 0
	// means nats-server's default (1,024).
	MaxAckPending uint16
	// Configure, if set, gets the options of each node before its start.
	Configure func(*server.Options)
}

// natsMaxPayload leaves room for the largest payload of the matrix test, 5 MiB.
const natsMaxPayload = 8 << 20

// StartNATS starts a nats-server with JetStream in this process.
func StartNATS(tb TB, opts NATSOptions) *Broker {
	tb.Helper()
	n := newNATSNode(tb, "nats", opts)
	b := n.broker("nats")
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// natsNode makes a new server at each start, on the same ports and files.
type natsNode struct {
	opts     server.Options
	certs    *Certificates
	tls      bool
	port, ws int
	server   *server.Server
}

// newNATSNode gives a node its ports and directory; it starts nothing.
func newNATSNode(tb TB, name string, opts NATSOptions) *natsNode {
	tb.Helper()
	dir := tempDir(tb)
	certs, err := NewCertificates(dir)
	if err != nil {
		tb.Fatalf("nats: %v", err)
	}
	ports, err := freePorts(3)
	if err != nil {
		tb.Fatalf("nats: %v", err)
	}
	n := &natsNode{certs: certs, tls: opts.TLS, port: ports[0], ws: ports[1]}
	n.opts = server.Options{
		ServerName: name,
		Host:       "127.0.0.1",
		Port:       ports[2],
		NoLog:      true,
		NoSigs:     true,
		MaxPayload: natsMaxPayload,
		MaxPending: 16 * natsMaxPayload,
		JetStream:  true,
		StoreDir:   dir,
		// Given, because the default is a share of this machine's free disk.
		JetStreamMaxMemory: 1 << 30,
		JetStreamMaxStore:  8 << 30,
		MQTT: server.MQTTOpts{
			Host: "127.0.0.1", Port: n.port,
			AckWait: opts.AckWait, MaxAckPending: opts.MaxAckPending,
			// A message of some MiB takes longer than the default 5 s to store on a busy
			// machine, and the server closes the connection that waits for it.
			JSAPITimeout: time.Minute,
		},
		Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: n.ws, NoTLS: !opts.TLS},
	}
	if opts.TLS {
		n.opts.MQTT.TLSConfig, n.opts.MQTT.TLSTimeout = certs.ServerConfig(false), 10
		n.opts.Websocket.TLSConfig = certs.ServerConfig(false)
	}
	if opts.Configure != nil {
		opts.Configure(&n.opts)
	}
	return n
}

func (n *natsNode) broker(name string) *Broker {
	return &Broker{name: name, versions: []Version{V311}, urls: n.urls(), certs: n.certs, process: n}
}

func (n *natsNode) urls() map[Transport]string {
	if n.tls {
		return map[Transport]string{
			TLS: "mqtts://" + hostPort(n.port),
			WSS: "wss://" + hostPort(n.ws) + "/mqtt",
		}
	}
	return map[Transport]string{
		TCP: "mqtt://" + hostPort(n.port),
		WS:  "ws://" + hostPort(n.ws) + "/mqtt",
	}
}

func (n *natsNode) start() error {
	opts := n.opts.Clone() // the server writes defaults into what it is given
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	n.server = s
	go s.Start() // ends at once or with the listeners; stop waits for the server
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return errors.New("nats-server was not ready in time")
	}
	return waitAccepting([]endpoint{{"tcp", hostPort(n.port)}, {"tcp", hostPort(n.ws)}}, nil)
}

func (n *natsNode) stop() error {
	return within(endTimeout, fmt.Sprintf("nats-server %s", n.opts.ServerName), func() error {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		return nil
	})
}

func (n *natsNode) kill() error { return n.stop() }
