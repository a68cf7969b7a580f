// Dialer: the settings, and the pipeline of steps from socket to net.Conn.

package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
)

// A Dialer makes connections. The zero value dials directly with the system's
// roots of trust. It may be copied, and is safe for concurrent use as long as
// no field changes; it changes nothing its fields point to.
type Dialer struct {
	// TLS configures mqtts and wss; nil means the zero config. It is cloned
	// for every connection. An empty ServerName becomes the host of the URL
	// being dialled, through proxies too. NextProtos are offered as given; for
	// wss "h2" is left out and "http/1.1" added, since the upgrade needs it.
	TLS *tls.Config

	// Header is sent with the WebSocket upgrade: Origin, Cookie, Host and the
	// like. The headers of the handshake itself may not be set.
	Header http.Header
	// HeaderFunc, if not nil, is called before each WebSocket attempt, so for each
	// address of the host that gets one. What it
	// returns replaces fields of the same name in Header. It must return when
	// ctx ends; its error fails the attempt.
	HeaderFunc func(ctx context.Context, u *URL) (http.Header, error)
	// Subprotocols are offered in the upgrade; nil means "mqtt"
	// [MQTT-6.0.0-3]. For MQTT 3.1 add "mqttv3.1". Of an answer that lists
	// several the first counts.
	Subprotocols []string
	// AllowMissingSubprotocol accepts a server that chooses no subprotocol, as
	// some gateways do. One that was not offered is refused all the same.
	AllowMissingSubprotocol bool
	// WriteBuffers is shared by WebSocket connections for their buffers of 128
	// KiB, which a connection holds only while it writes. A *sync.Pool serves.
	// Nil means a pool for each connection.
	WriteBuffers BufferPool

	// LocalAddr is the local address for TCP sockets; nil means any. Not used
	// with DialFunc.
	LocalAddr net.Addr
	// DialFunc opens every socket, to servers and proxies, instead of
	// net.Dialer; network is "tcp" or "unix". It must return when ctx ends.
	// The connection may be in memory. The address it gets has the host of the
	// URL, unless LookupHost is set; then it may be called for several addresses
	// of the host at the same time.
	DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

	// Proxy, if not nil, is used for everything but unix sockets: http and
	// https (CONNECT), socks5 and socks5h (both resolve at the proxy), with
	// user info if the proxy wants it. [CheckProxy] tells what is accepted.
	Proxy *url.URL
	// ProxyTLS configures the connection to an https proxy; nil means the
	// zero config. It is apart from TLS so that a client certificate meant for
	// the server is not shown to the proxy.
	ProxyTLS *tls.Config
	// ProxyFromEnvironment takes the proxy from HTTPS_PROXY (for TLS) or
	// HTTP_PROXY (else) as [http.ProxyFromEnvironment] does, then from
	// ALL_PROXY; NO_PROXY, localhost and loopback addresses are exempt. Proxy
	// wins over it.
	ProxyFromEnvironment bool

	// LookupSRV looks up SRV records with the contract of
	// [net.Resolver.LookupSRV], the order of the result included: by priority,
	// and by weighted chance within one. Nil means [net.DefaultResolver].
	LookupSRV func(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
	// LookupHost looks up the addresses of a host, with the contract of
	// [net.Resolver.LookupNetIP] for network "ip", the order of the result
	// included. Nil means [net.DefaultResolver], and with DialFunc no look-up.
	LookupHost func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Dial connects to u. ctx bounds every step, handshakes with a silent peer
// included; when it ends the socket is closed and no goroutine stays. Once
// Dial has returned, ctx has no effect on the connection.
//
// An SRV URL is expanded with [Dialer.Targets] and its servers are tried in
// order, each with an even share of the time that is left.
//
// A host may have several addresses. The socket goes to the first that accepts:
// each is tried 250 ms after the one before, or when that one failed. If the
// steps above the socket meet silence or a cut connection the next address is
// tried, each with half of the time that ctx has left, the last with all of it;
// an answer, see [Answered], ends the attempt. Server name and Host header are
// those of the URL, whatever the address. Without a deadline a silent address is
// waited for until ctx ends.
//
// The error is a [*StepError], or joins one for each address that was tried and
// each server of an SRV URL, or is a [*URLError] if u has an unknown scheme.
// The connection is a *net.TCPConn or *net.UnixConn or what DialFunc returned
// (mqtt, unix), one with a ConnectionState method as *tls.Conn has (mqtts), or
// a [*WebSocketConn] (ws, wss). See the package comment for its one writer.
func (d *Dialer) Dial(ctx context.Context, u *URL) (net.Conn, error) {
	if _, known := kindOf(u.Scheme); !known {
		return nil, &URLError{"scheme", "unknown; use Parse"}
	}
	if u.SRV() {
		return d.dialTargets(ctx, u)
	}
	return d.dialServer(ctx, u)
}

// dialServer goes over the addresses of u's host.
func (d *Dialer) dialServer(ctx context.Context, u *URL) (conn net.Conn, err error) {
	addresses, err := d.Addresses(ctx, u)
	if err != nil {
		return nil, err
	}
	err = Walk(ctx, addresses, Answered, func(left []string) (used string, err error) {
		once, err := d.Prepare(ctx, u)
		if err != nil {
			return "", err
		}
		share, cancel := Share(ctx, len(left))
		defer cancel()
		conn, used, err = once.DialAddresses(share, u, left)
		return used, err
	})
	return conn, err
}

// Prepare returns a Dialer for one connection to u: what HeaderFunc returns is in
// its Header. Finding that out may take long, and is no server's fault.
func (d *Dialer) Prepare(ctx context.Context, u *URL) (*Dialer, error) {
	once := *d
	if d.HeaderFunc == nil || !u.WebSocket() {
		return &once, nil
	}
	header, err := d.header(ctx, u)
	if err != nil {
		return nil, d.failed(ctx, u, "", StepWebSocket, err)
	}
	once.Header, once.HeaderFunc = header, nil
	return &once, nil
}

// DialAddresses connects to the first of addresses that accepts, as [Dialer.Dial]
// does, but for what it does when a step above the socket fails: it returns then.
// addresses come from [Dialer.Addresses] and are those to try, at least one; u is
// not an SRV URL.
//
// used is the address that accepted, also when err is not nil; empty when none did
// or it did not come to that. err is then a [*StepError], or joins one for each of
// several addresses.
func (d *Dialer) DialAddresses(ctx context.Context, u *URL, addresses []string) (conn net.Conn, used string, err error) {
	// All that is needed is found out before the socket opens, so that no server
	// sees a connection that only waits for us.
	proxy, err := d.proxyFor(u)
	if err != nil {
		return nil, "", d.failed(ctx, u, "", StepProxy, err)
	}
	layers, err := d.layers(ctx, u, proxy)
	if err != nil {
		return nil, "", d.failed(ctx, u, "", StepWebSocket, err)
	}
	raw, used, err := d.open(ctx, u, proxy, addresses)
	if err != nil {
		return nil, "", err
	}
	conn, step, err := build(ctx, raw, layers)
	if err != nil {
		return nil, used, d.failed(ctx, u, used, step, err)
	}
	return conn, used, nil
}

// failed is the error of a step, at address if it is not empty.
func (d *Dialer) failed(ctx context.Context, u *URL, address string, step Step, err error) error {
	e := &StepError{Step: step, Server: u.String(), Err: withContext(ctx, err)}
	if address != u.Address() {
		e.Address = address
	}
	proxy, _ := d.proxyFor(u)
	e.Proxy = redacted(proxy)
	return e
}

// open opens the one socket, to one of addresses or to the proxy.
func (d *Dialer) open(ctx context.Context, u *URL, proxy *url.URL, addresses []string) (conn net.Conn, used string, err error) {
	if proxy != nil {
		conn, err = d.dial(ctx, "tcp", proxyAddress(proxy))
		if err != nil {
			return nil, "", d.failed(ctx, u, "", StepProxy, err)
		}
		return conn, addresses[0], nil
	}
	conn, i, errs := d.race(ctx, u.Network(), addresses)
	if i >= 0 {
		return conn, addresses[i], nil
	}
	for i, err := range errs {
		errs[i] = d.failed(ctx, u, addresses[i], failedDial(err), err)
	}
	if len(errs) == 1 {
		return nil, "", errs[0]
	}
	return nil, "", errors.Join(errs...)
}

// dial is the only place where sockets are opened.
func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if d.DialFunc != nil {
		conn, err := d.DialFunc(ctx, network, address)
		if conn == nil && err == nil {
			err = errors.New("DialFunc returned neither a connection nor an error")
		}
		return conn, err
	}
	var dialer net.Dialer
	if network == "tcp" {
		dialer.LocalAddr = d.LocalAddr
	}
	return dialer.DialContext(ctx, network, address)
}

// A layer is one handshake on the connection below it.
type layer struct {
	step Step
	wrap func(ctx context.Context, below, raw net.Conn) (net.Conn, error)
}

// layers lists the handshakes u needs, in order.
func (d *Dialer) layers(ctx context.Context, u *URL, proxy *url.URL) ([]layer, error) {
	var list []layer
	if proxy != nil {
		list = append(list, layer{StepProxy, d.tunnel(proxy, u.Address())})
	}
	if u.TLS() {
		list = append(list, layer{StepTLS, startTLS(d.serverTLS(u))})
	}
	if u.WebSocket() {
		header, err := d.header(ctx, u)
		if err != nil {
			return nil, err
		}
		list = append(list, layer{StepWebSocket, d.upgrade(u, header)})
	}
	return list, nil
}

// build runs the layers. The end of ctx closes the socket at the bottom, which
// ends whatever read or write is in progress above it: deadlines would not do,
// since handshakes set and clear them.
func build(ctx context.Context, raw net.Conn, layers []layer) (conn net.Conn, step Step, err error) {
	release := closeOnDone(ctx, raw)
	conn, step = raw, StepDial
	for _, l := range layers {
		step = l.step
		if conn, err = l.wrap(ctx, conn, raw); err != nil {
			break
		}
	}
	if ended := release(); ended && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = raw.Close()
		return nil, step, err
	}
	return conn, step, nil
}

// closeOnDone closes c when ctx ends, until release is called. release says
// whether that happened, and waits for a Close in progress.
func closeOnDone(ctx context.Context, c net.Conn) (release func() (ended bool)) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = c.Close()
	})
	return func() bool {
		if stop() {
			return false
		}
		<-closed
		return true
	}
}
