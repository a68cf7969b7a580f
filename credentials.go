package mqtt

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
)

// Credentials are what a CONNECT carries about the user. Username and Password
// tell absent (nil) from empty. The other fields, where set, take the place of
// the options of Connect for one attempt.
type Credentials struct {
	Username *string     // nil: absent
	Password []byte      // nil: absent
	URL      string      // another server URL, of a domain (mqtt+srv) too
	Header   http.Header // instead of WithHeader
	TLS      *tls.Config // instead of WithTLS
}

// LogValue keeps credentials out of logs.
func (Credentials) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String keeps credentials out of text.
func (Credentials) String() string { return "[redacted]" }

// GoString keeps credentials out of text.
func (Credentials) GoString() string { return "mqtt.Credentials{[redacted]}" }

// WithCredentials sets user name and password, instead of those in the URL.
func WithCredentials(username, password string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username, Password: []byte(password)} })
}

// WithUsername sets a user name without a password.
func WithUsername(username string) ConnectOption {
	return connectFunc(func(c *config) { c.fixedCredentials = Credentials{Username: &username} })
}

// WithCredentialsFunc sets a function that is called before every attempt, with
// the context of the attempt, and may change for it what [Credentials] hold: user
// name, password, URL, WebSocket headers, TLS configuration and with that the
// client certificate. Its error counts as a failed attempt. The attempt waits for it
// until that context ends and 250 ms more, so that it may itself end the Conn.
func WithCredentialsFunc(f func(context.Context) (Credentials, error)) ConnectOption {
	return connectFunc(func(c *config) { c.credentials = f })
}
