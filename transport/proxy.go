// Proxies: which one, and the tunnel through it.

package transport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/proxy"
)

// CheckProxy returns a [*URLError] if u cannot be used as [Dialer.Proxy]: the
// scheme must be http, https, socks5 or socks5h, with a host, a port of 1 to
// 65535 if any, and no more than user info beside them. Nil is accepted.
func CheckProxy(u *url.URL) error {
	if u == nil {
		return nil
	}
	if proxyPort(u.Scheme) == "" {
		return &URLError{"scheme", "unknown " + strconv.Quote(u.Scheme) + " of a proxy; known are http, https, socks5, socks5h"}
	}
	if u.Hostname() == "" {
		return &URLError{"host", "missing in a proxy URL"}
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return &URLError{"port", "of a proxy URL must be 1 to 65535"}
	}
	if (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return &URLError{"path", "a proxy URL has no path, query or fragment"}
	}
	return nil
}

// proxyPort returns the default port of a proxy scheme; empty if unknown.
func proxyPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	case "socks5", "socks5h":
		return "1080"
	default:
		return ""
	}
}

func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = proxyPort(u.Scheme)
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// redacted prints no more of a proxy URL than CheckProxy allows in one.
func redacted(u *url.URL) string {
	if u == nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}).Redacted()
}

// proxyFor returns the proxy for u, nil for none.
func (d *Dialer) proxyFor(u *URL) (*url.URL, error) {
	var chosen *url.URL
	switch {
	case u.kind().local:
	case d.Proxy != nil:
		chosen = d.Proxy
	case d.ProxyFromEnvironment:
		var err error
		if chosen, err = environmentProxy(u); err != nil {
			return nil, err
		}
	}
	return chosen, CheckProxy(chosen)
}

// tunnel returns the layer that asks the proxy for a way to target.
func (d *Dialer) tunnel(via *url.URL, target string) func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
	switch via.Scheme {
	case "http":
		return func(_ context.Context, below, _ net.Conn) (net.Conn, error) {
			return below, connectTunnel(below, via, target)
		}
	case "https":
		return func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
			conn, err := startTLS(d.proxyTLS(via))(ctx, below, raw)
			if err != nil {
				return nil, err
			}
			return conn, connectTunnel(conn, via, target)
		}
	default:
		return func(_ context.Context, below, _ net.Conn) (net.Conn, error) {
			return below, socksTunnel(below, via, target)
		}
	}
}

// maxProxyAnswer bounds what a proxy may answer to CONNECT.
const maxProxyAnswer = 64 << 10

// connectTunnel makes an HTTP CONNECT (RFC 9110 section 9.3.6).
func connectTunnel(conn net.Conn, via *url.URL, target string) error {
	request := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: target},
		Host:   target,
		Header: http.Header{"User-Agent": {""}},
	}
	if via.User != nil {
		password, _ := via.User.Password()
		token := base64.StdEncoding.EncodeToString([]byte(via.User.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+token)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	answer := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	response, err := http.ReadResponse(answer, request)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		_, reason, _ := strings.Cut(response.Status, " ")
		return &ProxyError{Status: response.StatusCode, Reason: reason}
	}
	// The client speaks first in TLS, HTTP and MQTT: bytes behind the answer
	// are not the server's, and they would be lost in this buffer.
	if answer.Buffered() > 0 {
		return errors.New("the proxy sent data behind its answer")
	}
	return nil
}

// socksTunnel makes a SOCKS5 CONNECT (RFC 1928). The connection that x/net
// returns only wraps conn; going on with conn itself keeps writev.
func socksTunnel(conn net.Conn, via *url.URL, target string) error {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", proxyAddress(via), auth, opened{conn})
	if err != nil {
		return err
	}
	_, err = dialer.Dial("tcp", target)
	return err
}

// opened is the forward dialer for a socket that is open already.
type opened struct{ conn net.Conn }

func (o opened) Dial(_, _ string) (net.Conn, error) { return o.conn, nil }
