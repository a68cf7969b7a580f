package mqtt

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
)

// Credentials are the user name and the password of a CONNECT (section 3.1.3.5 and
// 3.1.3.6), of which nil means absent, unlike empty. The other fields, when set, replace
// options of Connect for one attempt.
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

// WithCredentials sets user name and password, which replace those in the URL. A user name
// that is not UTF-8, or a password above 65,535 bytes, is an [InvalidError].
func WithCredentials(username, password string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username, Password: []byte(password)} })
}

// WithUsername sets a user name that replaces the one in the URL, without a password.
func WithUsername(username string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username} })
}

// WithCredentialsFunc sets a function that is called before every attempt with the context
// of the attempt. The [Credentials] that it returns count for this attempt: user name,
// password, URL, WebSocket headers, and TLS configuration with the client certificate. An
// error fails the attempt. The attempt waits for the function until that context ends, and
// 250 ms longer; so the function may itself end the Conn.
func WithCredentialsFunc(f func(context.Context) (Credentials, error)) ConnectOption {
	return connectFunc(func(c *config) { c.credentials = f })
}
