package mqtt

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/millrace/mqtt/transport"
)

// Credentials are the user name and the password of a CONNECT (section 3.1.3.5 and
// 3.1.3.6), of which nil means absent, unlike empty. The other fields, when set, replace
// options of Connect for one attempt.
//
// User name and password come from one place: the first of the function of
// [WithCredentialsFunc], [WithCredentials] or [WithUsername], the URL of the Credentials
// and the URL of Connect that gives one of them gives both.
type Credentials struct {
	Username *string     // nil: absent
	Password []byte      // nil: absent
	URL      string      // another server URL, which may be mqtt+srv or mqtts+srv
	Header   http.Header // instead of WithHeader
	TLS      *tls.Config // instead of WithTLS
}

// LogValue keeps credentials out of logs.
func (Credentials) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String keeps credentials out of text.
func (Credentials) String() string { return "[redacted]" }

// GoString keeps credentials out of text.
func (Credentials) GoString() string { return "mqtt.Credentials{[redacted]}" }

// Format keeps credentials out of text, whatever the verb.
func (c Credentials) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		_, _ = io.WriteString(f, c.GoString())
		return
	}
	_, _ = io.WriteString(f, c.String())
}

// MarshalText keeps credentials out of JSON and the like.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// withLogin returns c with user name and password of the first that gives one of them: c,
// option, and the URLs.
func (c Credentials) withLogin(option Credentials, urls ...*transport.URL) Credentials {
	from := []Credentials{c, option}
	for _, u := range urls {
		var of Credentials
		if name, ok := u.Username(); ok {
			of.Username = &name
		}
		if password, ok := u.Password(); ok {
			of.Password = []byte(password)
		}
		from = append(from, of)
	}
	for _, of := range from {
		if of.Username != nil || of.Password != nil {
			c.Username, c.Password = of.Username, of.Password
			break
		}
	}
	return c
}

// WithCredentials sets user name and password, which replace those in the URL, see
// [Credentials]. A user name that is not UTF-8, or a password above 65,535 bytes, is an
// [InvalidError].
func WithCredentials(username, password string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username, Password: []byte(password)} })
}

// WithUsername sets a user name without a password, which replaces both in the URL, see
// [Credentials].
func WithUsername(username string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username} })
}

// WithCredentialsFunc sets a function that is called before every attempt with the context
// of the attempt. The [Credentials] that it returns count for this attempt: user name,
// password, URL, WebSocket headers, and TLS configuration with the client certificate. With
// neither user name nor password those of options and URL stay in force. A TLS configuration
// for a URL without TLS fails the attempt before any I/O, and so does such a URL instead of
// one with TLS when [WithTLS] is given, or a header without WebSocket. An
// error fails the attempt. The attempt waits for the function until that context ends, and
// 250 ms longer; so the function may itself end the Conn.
func WithCredentialsFunc(f func(context.Context) (Credentials, error)) ConnectOption {
	return connectFunc(func(c *config) { c.credentials = f })
}
