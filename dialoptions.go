package mqtt

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/millrace/mqtt/transport"
)

// This file has the options for opening the connection to a server.

// WithTLS sets the TLS configuration of mqtts and wss URLs, which is cloned for each
// attempt. [transport.LoadTLS] makes one from PEM files. The default, which nil keeps,
// trusts the system's roots and checks the certificate against the host of the URL. When no
// URL of Connect and [WithServers] uses TLS it is an [InvalidError]: the connection would be
// in the clear. The callbacks in t may end the Conn, see [WithDialer].
func WithTLS(t *tls.Config) ConnectOption {
	return connectFunc(func(c *config) {
		if t != nil {
			c.dialer.TLS = t.Clone()
		}
	})
}

// WithHeader adds headers to the WebSocket handshake. Those of the handshake itself, such
// as Upgrade, fail the attempt. When no URL uses WebSocket it is an [InvalidError].
func WithHeader(h http.Header) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.Header = h.Clone() })
}

// WithHeaderFunc sets a function that makes headers for each WebSocket attempt. An error
// fails the attempt. The function may end the Conn, see [WithDialer].
func WithHeaderFunc(f func(ctx context.Context, u *transport.URL) (http.Header, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.HeaderFunc = f })
}

// WithOptionalSubprotocol accepts a WebSocket server that does not choose the subprotocol
// "mqtt" [MQTT-6.0.0-4].
func WithOptionalSubprotocol() ConnectOption {
	return connectFunc(func(c *config) { c.dialer.AllowMissingSubprotocol = true })
}

// WithLocalAddr sets the local address of TCP connections. Of a server's addresses only
// those of the same family, IPv4 or IPv6, are tried then.
func WithLocalAddr(a net.Addr) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LocalAddr = a })
}

// WithDialer sets the function that opens sockets, for all transports. It gets the name of
// the server's host and looks up the addresses itself; with [WithHostLookup] it gets an
// address. It may wrap the net.Conn, whose methods must return. A net.Conn with a method
// SyscallConn or NetConn, as *net.TCPConn and *tls.Conn have, shows [WithPingTimeout] its
// socket.
//
// An attempt waits for the function until the context that it was given ends, and 750 ms
// longer; so the function may itself end the Conn. Then the attempt goes on without it,
// and a connection that it still returns is closed.
func WithDialer(f func(ctx context.Context, network, address string) (net.Conn, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.DialFunc = f })
}

// WithSRVLookup sets the function that looks up the SRV records of a mqtt+srv or mqtts+srv
// URL, with the contract of [net.Resolver.LookupSRV]. It may end the Conn, see
// [WithDialer].
func WithSRVLookup(f func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LookupSRV = f })
}

// WithHostLookup sets the function that looks up the addresses of a server's host, with
// the contract of [net.Resolver.LookupNetIP] for network "ip". With [WithDialer] the
// dialer then gets addresses instead of the name, and may be called for several at the
// same time.
func WithHostLookup(f func(ctx context.Context, host string) ([]netip.Addr, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LookupHost = f })
}

// WithProxy sets the proxy through which servers are connected, with scheme http, https
// (both by CONNECT), socks5 or socks5h. A URL that is not valid is an [InvalidError].
func WithProxy(u *url.URL) ConnectOption {
	return connectFunc(func(c *config) {
		if err := transport.CheckProxy(u); err != nil {
			c.errs = append(c.errs, &InvalidError{What: "proxy", Problem: err.Error()})
		}
		c.dialer.Proxy = u
	})
}

// WithProxyFromEnvironment takes the proxy from the environment variables HTTPS_PROXY,
// HTTP_PROXY, ALL_PROXY and NO_PROXY, which are not read otherwise.
func WithProxyFromEnvironment() ConnectOption {
	return connectFunc(func(c *config) { c.dialer.ProxyFromEnvironment = true })
}
