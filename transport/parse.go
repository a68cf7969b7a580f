// Parse: from text to URL, refusing what would be ignored or misread.

package transport

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Parse reads a server URL. It refuses, as a [*URLError], an unknown scheme,
// an empty or malformed host, a port outside 1 to 65535, a fragment, and
// parts that the scheme gives no meaning: silently dropping a path or a query
// would hide a mistake. The error does not contain the input.
//
// Reserved characters in the user name and password are percent-encoded.
func Parse(raw string) (*URL, error) {
	in, err := url.Parse(raw)
	if err != nil {
		return nil, parseProblem(err)
	}
	k, known := kindOf(in.Scheme)
	switch {
	case in.Scheme == "":
		return nil, &URLError{"scheme", "missing; write for example mqtt://host:1883"}
	case !known:
		return nil, &URLError{"scheme", "unknown " + strconv.Quote(in.Scheme) +
			"; known are mqtt, tcp, mqtts, ssl, tls, ws, wss, unix, mqtt+srv, mqtts+srv"}
	case in.Fragment != "" || strings.Contains(raw, "#"):
		return nil, &URLError{"fragment", `not allowed; write a "#" in a password as %23`}
	}
	u := &URL{Scheme: in.Scheme, secret: secretOf(in)}
	if err := u.setPlace(in, k); err != nil {
		return nil, err
	}
	return u, nil
}

func (u *URL) setPlace(in *url.URL, k kind) error {
	if k.local {
		return u.setSocket(in)
	}
	if err := u.setHost(in, k); err != nil {
		return err
	}
	return u.setPath(in, k)
}

// parseProblem replaces an error of url.Parse, whose text repeats the input.
func parseProblem(err error) *URLError {
	if _, ok := errors.AsType[url.EscapeError](err); ok {
		return &URLError{"url", `bad percent-encoding; write a "%" as %25`}
	}
	if _, ok := errors.AsType[url.InvalidHostError](err); ok {
		return &URLError{"host", "has a character that is not allowed there"}
	}
	return &URLError{"url", "malformed; expected scheme://[user[:password]@]host[:port][/path], " +
		"with reserved characters in user name and password percent-encoded"}
}

func secretOf(in *url.URL) func() secret {
	s := secret{query: in.RawQuery}
	if in.User != nil {
		s.username = in.User.Username()
		s.hasUsername = s.username != ""
		s.password, s.hasPassword = in.User.Password()
	}
	return func() secret { return s }
}

func (u *URL) setSocket(in *url.URL) error {
	switch {
	case in.Host != "":
		return &URLError{"host", "not allowed in a unix URL; write unix:///path/to/socket"}
	case in.RawQuery != "" || in.ForceQuery:
		return &URLError{"query", "only ws and wss take one"}
	case len(in.Path) < 2 || strings.ContainsRune(in.Path, 0):
		return &URLError{"path", "a unix URL needs an absolute path; write unix:///path/to/socket"}
	}
	u.Path = in.Path
	return nil
}

func (u *URL) setHost(in *url.URL, k kind) error {
	u.Host = in.Hostname()
	addr, notIP := netip.ParseAddr(u.Host)
	name := u.Host
	if notIP == nil {
		name = addr.Zone()
	}
	switch {
	case u.Host == "":
		return &URLError{"host", "missing"}
	case strings.HasPrefix(in.Host, "[") && notIP != nil:
		return &URLError{"host", "what stands in brackets is not an IPv6 address"}
	case strings.Contains(u.Host, ":") && !strings.HasPrefix(in.Host, "["):
		return &URLError{"host", "write an IPv6 address in brackets"}
	case strings.ContainsFunc(name, notInName):
		return &URLError{"host", "has a character that is not allowed there; write an international name in its xn-- form"}
	case k.srv && notIP == nil:
		return &URLError{"host", "an SRV lookup needs a domain name, not an address"}
	case k.srv && in.Port() != "":
		return &URLError{"port", "not allowed; the SRV records give it"}
	}
	u.Port = k.port
	if in.Port() == "" {
		return nil
	}
	port, err := strconv.ParseUint(in.Port(), 10, 16)
	if err != nil || port == 0 {
		return &URLError{"port", "must be 1 to 65535"}
	}
	u.Port = uint16(port)
	return nil
}

// notInName keeps out what no resolver takes and what would need escapes to be
// printed.
func notInName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	default:
		return !strings.ContainsRune("-._~", r)
	}
}

func (u *URL) setPath(in *url.URL, k kind) error {
	switch {
	case k.ws:
		u.Path = in.EscapedPath()
		if u.Path == "" {
			u.Path = "/"
		}
		return nil
	case in.Path != "" && in.Path != "/":
		return &URLError{"path", `only ws, wss and unix take one; write a "/" in a password as %2F`}
	case in.RawQuery != "" || in.ForceQuery:
		return &URLError{"query", "only ws and wss take one"}
	}
	return nil
}
