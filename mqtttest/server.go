package mqtttest

import (
	"context"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// The types of package mqtttest/server that tests name most.
type (
	// Server is an MQTT server in memory.
	Server = server.Server
	// Config says how a Server behaves; the zero value accepts everything.
	Config = server.Config
	// Network is an in-memory network; the zero value is ready for use.
	Network = server.Network
	// Link is one connection of a Network, the handle for its faults.
	Link = server.Link
	// Direction is a direction of a Link, or both.
	Direction = server.Direction
	// Ack is an answer of a Server, as [Config.OnAck] sees it.
	Ack = server.Ack
	// Fate is what becomes of an Ack.
	Fate = server.Fate
	// Received is a PUBLISH as a Server took it.
	Received = server.Received
	// Peer stands in for a server where the bytes themselves are the question.
	Peer = server.Peer
	// Wire is one connection of a client to a Peer.
	Wire = server.Wire
	// TB is the part of testing.TB that this package uses.
	TB = server.TB
)

// The directions of a Link.
const (
	ToServer = server.ToServer
	ToClient = server.ToClient
	Both     = server.Both
)

// Broker is a Server on a Network of its own.
type Broker struct {
	*Server
	// Network is where the Server listens, at every address.
	Network *Network
}

// Start starts a Server on a Network of its own. The end of the test closes it.
func Start(t TB, cfg Config) *Broker {
	t.Helper()
	n := new(Network)
	b := &Broker{Server: server.Start(n, cfg), Network: n}
	t.Cleanup(func() { b.Close() })
	return b
}

// Options are what makes a Conn connect to b, for code under test that calls
// [mqtt.Connect] itself; any URL of scheme mqtt will do.
func (b *Broker) Options() []mqtt.ConnectOption {
	return []mqtt.ConnectOption{mqtt.WithDialer(b.Network.Dial)}
}

// Connect connects a Conn to b and fails the test when that cannot be. The end
// of the test closes the Conn.
func Connect(t TB, b *Broker, opts ...mqtt.ConnectOption) *mqtt.Conn {
	t.Helper()
	conn, err := mqtt.Connect(context.Background(), "mqtt://broker", append(b.Options(), opts...)...)
	if err != nil {
		t.Fatalf("mqtttest: %v", err)
		return nil
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// NewPeer returns a Peer that takes the connections of n that no other server takes.
func NewPeer(t TB, n *Network) *Peer { return server.NewPeer(t, n) }
