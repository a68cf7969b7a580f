package broker

import (
	"crypto/tls"
	"maps"
	"slices"
	"sync"
)

// TB is the part of testing.TB that this package needs, so that a program that
// is not a test can run brokers too. Fatalf and Skipf must not return.
type TB interface {
	// These are as in testing.TB.
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Transport is a way to reach a broker.
type Transport string

// The transports a broker may offer.
const (
	TCP       Transport = "tcp"
	TLS       Transport = "tls"
	MutualTLS Transport = "mutual tls" // the broker demands a client certificate
	WS        Transport = "ws"
	WSS       Transport = "wss"
	Unix      Transport = "unix"
)

// Transports returns all transports in the order of a matrix table.
func Transports() []Transport { return []Transport{TCP, TLS, MutualTLS, WS, WSS, Unix} }

// Version is a protocol level as it stands in CONNECT.
type Version byte

// The protocol versions a broker may speak.
const (
	V31  Version = 3
	V311 Version = 4
	V5   Version = 5
)

// Versions returns all versions, oldest first.
func Versions() []Version { return []Version{V31, V311, V5} }

// String returns the version as the standards name it.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "unknown"
}

// Broker is one running broker. Its methods may be called from several
// goroutines; Stop, Kill and Restart wait for each other.
type Broker struct {
	name     string
	versions []Version
	urls     map[Transport]string
	certs    *Certificates
	process  process

	mu      sync.Mutex
	running bool // guarded by mu
}

// process is what differs between brokers. start returns when every listener
// accepts connections; stop and kill return when the broker has ended.
type process interface {
	start() error
	stop() error
	kill() error
}

// Name returns the broker's name for tables and subtests.
func (b *Broker) Name() string { return b.name }

// URL returns the address of a transport in the form the client takes, or ""
// where the broker does not offer it. TLS addresses name the host 127.0.0.1,
// which the server certificate covers.
func (b *Broker) URL(t Transport) string { return b.urls[t] }

// URLs returns a copy of all addresses.
func (b *Broker) URLs() map[Transport]string { return maps.Clone(b.urls) }

// Supports tells whether the broker speaks a version over a transport.
func (b *Broker) Supports(v Version, t Transport) bool {
	return b.urls[t] != "" && slices.Contains(b.versions, v)
}

// TLSConfig returns a configuration of the caller's own that trusts the broker,
// with a client certificate for MutualTLS; nil for transports without TLS.
func (b *Broker) TLSConfig(t Transport) *tls.Config {
	switch t {
	case TLS, WSS:
		return b.certs.ClientConfig(false)
	case MutualTLS:
		return b.certs.ClientConfig(true)
	}
	return nil
}

// Certificates returns the files and values behind TLSConfig.
func (b *Broker) Certificates() *Certificates { return b.certs }

// Stop ends the broker in the orderly way: Mosquitto saves its sessions on
// SIGTERM. It returns when the broker has ended; a stopped one stays stopped.
func (b *Broker) Stop(tb TB) {
	tb.Helper()
	if err := b.end(b.process.stop); err != nil {
		tb.Fatalf("%s: stop: %v", b.name, err)
	}
}

// Kill ends the broker without a farewell, by SIGKILL. nats-server, which runs in
// this process, is shut down.
func (b *Broker) Kill(tb TB) {
	tb.Helper()
	if err := b.end(b.process.kill); err != nil {
		tb.Fatalf("%s: kill: %v", b.name, err)
	}
}

// Restart stops the broker if it runs and starts it on the same addresses, with
// what it kept on disk.
func (b *Broker) Restart(tb TB) {
	tb.Helper()
	b.Stop(tb)
	b.launch(tb)
}

// end stops a running broker by the step given.
func (b *Broker) end(step func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running {
		return nil
	}
	b.running = false
	return step()
}

func (b *Broker) launch(tb TB) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.process.start(); err != nil {
		tb.Fatalf("%s: start: %v", b.name, err)
	}
	b.running = true
}
