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

// This file has the options of how a socket to a server is opened.

// WithTLS sets the TLS configuration of mqtts and wss URLs, which is cloned for
// each attempt. [transport.LoadTLS] makes one from PEM files. The default trusts
// the system's roots, for the host of the URL. Its callbacks run as the function of
// [WithDialer] does.
func WithTLS(t *tls.Config) ConnectOption {
	return connectFunc(func(c *config) {
		if t != nil {
			c.dialer.TLS = t.Clone()
		}
	})
}

// WithHeader adds headers to the WebSocket handshake.
func WithHeader(h http.Header) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.Header = h.Clone() })
}

// WithHeaderFunc sets a function that makes headers for each WebSocket attempt. It
// runs as the function of [WithDialer] does.
func WithHeaderFunc(f func(ctx context.Context, u *transport.URL) (http.Header, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.HeaderFunc = f })
}

// WithOptionalSubprotocol accepts a WebSocket server that does not choose the
// subprotocol.
func WithOptionalSubprotocol() ConnectOption {
	return connectFunc(func(c *config) { c.dialer.AllowMissingSubprotocol = true })
}

// WithLocalAddr sets the local address of TCP connections. Of the addresses of a
// server only those of its family are tried.
func WithLocalAddr(a net.Addr) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LocalAddr = a })
}

// WithDialer sets the function that opens sockets, for all transports. It may
// wrap or watch the net.Conn, whose methods must return; one that has a method
// SyscallConn or NetConn, as *net.TCPConn and *tls.Conn have, shows [WithPingTimeout]
// its socket. It is given the name of the host, and to try the addresses of that is its
// own affair, unless [WithHostLookup] is set.
//
// An attempt waits for the function until the context ends that it is given, and 750 ms
// more; then it is left behind, and a connection that it brings later is closed. So it
// may itself end the Conn.
func WithDialer(f func(ctx context.Context, network, address string) (net.Conn, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.DialFunc = f })
}

// WithSRVLookup sets the function that looks up the SRV records of a mqtt+srv or
// mqtts+srv URL, with the contract of [net.Resolver.LookupSRV]. It runs as the
// function of [WithDialer] does.
func WithSRVLookup(f func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LookupSRV = f })
}

// WithHostLookup sets the function that looks up the addresses of a server's host,
// with the contract of [net.Resolver.LookupNetIP] for network "ip". With
// [WithDialer] the dialer then gets addresses instead of the name, and may be called
// for several at the same time.
func WithHostLookup(f func(ctx context.Context, host string) ([]netip.Addr, error)) ConnectOption {
	return connectFunc(func(c *config) { c.dialer.LookupHost = f })
}

// WithProxy sets a proxy: http, https (CONNECT), socks5 or socks5h.
func WithProxy(u *url.URL) ConnectOption {
	return connectFunc(func(c *config) {
		if err := transport.CheckProxy(u); err != nil {
			c.errs = append(c.errs, &InvalidError{What: "proxy", Problem: err.Error()})
		}
		c.dialer.Proxy = u
	})
}

// WithProxyFromEnvironment takes the proxy from HTTPS_PROXY, HTTP_PROXY,
// ALL_PROXY and NO_PROXY.
func WithProxyFromEnvironment() ConnectOption {
	return connectFunc(func(c *config) { c.dialer.ProxyFromEnvironment = true })
}
