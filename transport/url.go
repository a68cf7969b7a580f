// Server URLs: parsing, defaults, and forms that show no secret.

package transport

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A URL names a server and the transport to it. Make one with [Parse]; treat
// it as immutable. Credentials and query are behind methods, and no form that
// fmt, encoding/json or log/slog prints shows the password or the query, even
// where a struct holds the URL in an unexported field.
type URL struct {
	// Scheme is the lower-case scheme as written, for example "mqtts".
	Scheme string
	// Host is the name or address without port or brackets; empty for unix.
	Host string
	// Port is the port, with the scheme's default filled in; 0 for unix and
	// SRV.
	Port uint16
	// Path is the percent-encoded request path of a WebSocket URL, "/" if the
	// URL has none, or the decoded path of a unix socket; else empty.
	Path string

	// A function, because fmt looks through pointers and does not call the
	// methods of what stands in an unexported field. Nil if there is none.
	secret func() secret
}

// secret holds what no text may show.
type secret struct {
	username, password       string
	hasUsername, hasPassword bool
	query                    string
}

// kind is what a scheme means.
type kind struct {
	port                uint16
	tls, ws, srv, local bool
}

func kindOf(scheme string) (k kind, known bool) {
	switch scheme {
	case "mqtt", "tcp":
		return kind{port: 1883}, true
	case "mqtts", "ssl", "tls":
		return kind{port: 8883, tls: true}, true
	case "ws":
		return kind{port: 80, ws: true}, true
	case "wss":
		return kind{port: 443, ws: true, tls: true}, true
	case "unix":
		return kind{local: true}, true
	case "mqtt+srv":
		return kind{srv: true}, true
	case "mqtts+srv":
		return kind{srv: true, tls: true}, true
	default:
		return kind{}, false
	}
}

func (u URL) kind() kind {
	k, _ := kindOf(u.Scheme)
	return k
}

// TLS reports whether the connection is encrypted: mqtts, ssl, tls, wss and
// mqtts+srv.
func (u URL) TLS() bool { return u.kind().tls }

// WebSocket reports whether the scheme is ws or wss.
func (u URL) WebSocket() bool { return u.kind().ws }

// SRV reports whether the host is a domain whose SRV records name the servers.
func (u URL) SRV() bool { return u.kind().srv }

// Network returns the network to dial: "unix" or "tcp".
func (u URL) Network() string {
	if u.kind().local {
		return "unix"
	}
	return "tcp"
}

// Address returns what to dial: the path of a unix socket, the bare domain of
// an SRV URL, else host:port with brackets round an IPv6 host.
func (u URL) Address() string {
	switch k := u.kind(); {
	case k.local:
		return u.Path
	case k.srv:
		return u.Host
	default:
		return net.JoinHostPort(u.Host, strconv.Itoa(int(u.Port)))
	}
}

// Username returns the decoded user name, and whether the URL has one. An
// empty one, as in mqtt://:token@host, counts as absent.
func (u URL) Username() (name string, ok bool) {
	s := u.secrets()
	return s.username, s.hasUsername
}

// Password returns the decoded password, and whether the URL has one; it may
// be present and empty.
func (u URL) Password() (password string, ok bool) {
	s := u.secrets()
	return s.password, s.hasPassword
}

// RawQuery returns the encoded query of a WebSocket URL, without "?". Treat it
// as a secret: signatures and tokens travel there.
func (u URL) RawQuery() string { return u.secrets().query }

func (u URL) secrets() secret {
	if u.secret == nil {
		return secret{}
	}
	return u.secret()
}

// mask stands for a secret in every printed form, as in [url.URL.Redacted].
const mask = "xxxxx"

// String returns the URL without user name and password, of which either may be a secret,
// and with the query replaced by "xxxxx".
func (u URL) String() string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteString("://")
	switch k := u.kind(); {
	case k.local:
		b.WriteString((&url.URL{Path: u.Path}).EscapedPath())
	default:
		b.WriteString(u.authority())
		b.WriteString(u.Path)
	}
	if u.RawQuery() != "" {
		b.WriteString("?" + mask)
	}
	return b.String()
}

// authority is host[:port] as it stands in a URL: the zone of an IPv6 address
// is escaped there (RFC 6874).
func (u URL) authority() string {
	host := u.Host
	if strings.Contains(host, ":") {
		host = "[" + strings.Replace(host, "%", "%25", 1) + "]"
	}
	if u.Port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(u.Port))
}

// GoString returns the redacted URL in Go syntax.
func (u URL) GoString() string { return fmt.Sprintf("transport.URL(%q)", u.String()) }

// Format prints the redacted URL for every verb.
func (u URL) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'v' && f.Flag('#'):
		_, _ = f.Write([]byte(u.GoString()))
	case verb == 'q':
		_, _ = f.Write([]byte(strconv.Quote(u.String())))
	default:
		_, _ = f.Write([]byte(u.String()))
	}
}

// MarshalText returns the redacted URL, which JSON and slog use.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// serverName is the name a certificate must carry. A zone is local to this
// machine and stands in no certificate.
func (u URL) serverName() string {
	if addr, err := netip.ParseAddr(u.Host); err == nil {
		return addr.WithZone("").String()
	}
	return u.Host
}
