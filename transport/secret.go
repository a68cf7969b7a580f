package transport

import (
	"fmt"
	"io"
	"log/slog"
)

// A Dialer holds secrets: headers, the password of a proxy, private keys. None is shown,
// whatever prints it.

// String gives no field: several may hold secrets.
func (d Dialer) String() string { return "transport.Dialer{...}" }

// GoString gives no field: several may hold secrets.
func (d Dialer) GoString() string { return d.String() }

// Format gives no field, whatever the verb.
func (d Dialer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// LogValue gives no field.
func (d Dialer) LogValue() slog.Value { return slog.StringValue(d.String()) }

// MarshalText gives no field.
func (d Dialer) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
