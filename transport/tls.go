// The TLS layer: a config for each connection, and a Close that is quick.

package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"time"
)

// serverTLS returns a config of its own for one connection to u.
func (d *Dialer) serverTLS(u *URL) *tls.Config {
	config := cloneTLS(d.TLS, u.serverName())
	if u.WebSocket() {
		config.NextProtos = http1Only(config.NextProtos)
	}
	return config
}

// proxyTLS returns a config of its own for one connection to an https proxy.
func (d *Dialer) proxyTLS(proxy *url.URL) *tls.Config {
	config := cloneTLS(d.ProxyTLS, proxy.Hostname())
	config.NextProtos = http1Only(config.NextProtos)
	return config
}

func cloneTLS(config *tls.Config, serverName string) *tls.Config {
	if config == nil {
		config = &tls.Config{}
	} else {
		config = config.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = serverName
	}
	return config
}

// http1Only keeps a config shared with an HTTP/2 client usable: a server that
// is offered h2 takes it, and HTTP/2 has no Upgrade. The result is a new
// slice, since a cloned config still shares the old one.
func http1Only(protos []string) []string {
	kept := slices.DeleteFunc(slices.Clone(protos), func(p string) bool { return p == "h2" })
	if !slices.Contains(kept, "http/1.1") {
		kept = append(kept, "http/1.1")
	}
	return kept
}

func startTLS(config *tls.Config) func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
	return func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
		conn := tls.Client(below, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		return &tlsConn{Conn: conn, raw: raw}, nil
	}
}

// closeGrace bounds the parting words of a Close. They are a courtesy, and
// a peer that does not read must not hold up a reconnect.
const closeGrace = 100 * time.Millisecond

// tlsConn bounds Close: tls.Conn waits up to 5 s to write its alert to a peer
// that does not read.
type tlsConn struct {
	*tls.Conn
	raw net.Conn
}

func (c *tlsConn) Close() error { return closeWithin(closeGrace, c.raw, c.Conn.Close) }

// closeWithin runs f, and closes raw if f takes longer than grace.
func closeWithin(grace time.Duration, raw net.Conn, f func() error) error {
	timer := time.AfterFunc(grace, func() { _ = raw.Close() })
	defer timer.Stop()
	return f()
}
