package server

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// Defaults of [Config].
const (
	DefaultInflight   = 20       // unacknowledged PUBLISHes to a 3.x client, as Mosquitto has it
	DefaultQoS0Bytes  = 1 << 20  // bytes waiting for a client above which QoS 0 is dropped
	DefaultLogEntries = 100_000  // entries that each log keeps
	DefaultLogBytes   = 64 << 20 // payload bytes that the log of PUBLISHes keeps
)

// Config says how a [Server] behaves. The zero value is a server that accepts everything and
// announces nothing. [Server.Change] alters it while the server runs. Hooks run on the goroutine
// of the connection they concern, without a lock, so they may call the Server; nil hooks do
// nothing. A hook that blocks holds up its own client only, and [Server.Close] waits for it; one
// that ends its goroutine, as t.FailNow does, ends the connection.
type Config struct {
	// Versions are the accepted protocol versions; none means all. Another version is refused as
	// a server of 3.x does, with return code 1 in the form of 3.x.
	Versions []codec.Version

	// Connack holds the properties of every CONNACK that accepts a 5.0 client. The server keeps to
	// what it announces here: it checks Receive Maximum, Maximum Packet Size, Topic Alias Maximum,
	// Maximum QoS, Retain Available and the three kinds of subscription, and takes Server Keep
	// Alive and Session Expiry Interval for its own.
	Connack *codec.Properties

	// OnConnect decides about a CONNECT: Success accepts, another code refuses; for 3.x it becomes
	// the nearest return code. Properties that are not nil stand in for Connack this once; in a
	// refusal they are all that is sent.
	OnConnect func(c *codec.Connect) (codec.ReasonCode, *codec.Properties)

	// OnSubscribe returns the code for one filter of a SUBSCRIBE: a granted QoS up to the one
	// asked for, or an error, which 3.x clients see as 0x80. Without it all is granted.
	OnSubscribe func(clientID string, sub codec.Subscription) codec.ReasonCode

	// OnUnsubscribe returns the code for one filter of an UNSUBSCRIBE. An error leaves the
	// subscription in place. 3.x clients do not see it.
	OnUnsubscribe func(clientID, filter string) codec.ReasonCode

	// OnPublish returns the code for a PUBLISH of a client. With an error the message goes no
	// further; 5.0 clients are told in PUBACK or PUBREC, 3.x clients get a plain one.
	OnPublish func(p Received) codec.ReasonCode

	// OnAck decides what becomes of an answer to a client.
	OnAck func(a Ack) Fate

	// OnPacket sees every packet that a connected client sends, before the server acts on it, and
	// swallows it by returning true. It is the place to act after packet n: it may call Server.Cut.
	OnPacket func(clientID string, p Packet) (swallow bool)

	// CopyPerSubscription sends a message once for every subscription of a client that matches,
	// each with its own identifier, instead of once with all identifiers and the highest QoS.
	CopyPerSubscription bool

	// Duplicate sends every PUBLISH of QoS 1 and 2 a second time at once, with DUP, as a server
	// does that loses its head; no standard allows it on one connection in 5.0.
	Duplicate bool

	// Inflight is the most unacknowledged PUBLISHes to a 3.x client, and to a 5.0 client whose
	// Receive Maximum is larger. Zero means DefaultInflight for 3.x and no own limit for 5.0.
	Inflight int

	// QoS0Bytes is how many bytes may wait for a client before QoS 0 messages to it are dropped.
	// Zero means DefaultQoS0Bytes. QoS 1 and 2 are never dropped: they wait in the session, as
	// many as the test makes.
	QoS0Bytes int

	// LogEntries is how many entries Received, Violations and the trace of each client keep; the
	// oldest give way. Zero means DefaultLogEntries.
	LogEntries int

	// LogBytes is how many bytes of payload Received keeps; the oldest give way, the newest stays.
	// Zero means DefaultLogBytes.
	LogBytes int

	// WriteTimeout ends a connection whose client does not take what is written for so long, and
	// bounds the last words at its end. Zero means 10 s for the last words and no other bound.
	WriteTimeout time.Duration
}

func (c *Config) accepts(v codec.Version) bool {
	for _, have := range c.Versions {
		if have == v {
			return true
		}
	}
	return len(c.Versions) == 0
}

// inflight returns how many PUBLISHes may be open towards a client.
func (c *Config) inflight(v codec.Version, receiveMaximum int) int {
	switch {
	case v != codec.V5:
		return positiveOr(c.Inflight, DefaultInflight)
	case c.Inflight > 0:
		return min(c.Inflight, receiveMaximum)
	}
	return receiveMaximum
}

func (c *Config) lastWords() time.Duration {
	if c.WriteTimeout > 0 {
		return c.WriteTimeout
	}
	return 10 * time.Second
}
