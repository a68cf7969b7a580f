package mqtt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/transport"
)

// A TLS configuration or a header that no URL can use is refused before any I/O: a
// connection in the clear must not be made silently.
func TestOptionsThatNoURLUsesAreRefused(t *testing.T) {
	headerFunc := func(context.Context, *transport.URL) (http.Header, error) { return nil, nil }
	withTLS, withHeader := mqtt.WithTLS(&tls.Config{}), mqtt.WithHeader(http.Header{"A": {"b"}})
	given := func(cr mqtt.Credentials) mqtt.ConnectOption {
		return mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { return cr, nil })
	}
	for _, tt := range []struct {
		name, url string
		opts      []mqtt.ConnectOption
		refused   string // empty: it is dialled
	}{
		{"TLS for mqtt", "mqtt://h", []mqtt.ConnectOption{withTLS}, "TLS configuration"},
		{"TLS for ws", "ws://h", []mqtt.ConnectOption{withTLS}, "TLS configuration"},
		{"TLS for mqtts", "mqtts://h", []mqtt.ConnectOption{withTLS}, ""},
		{"TLS for one of two", "mqtt://h", []mqtt.ConnectOption{withTLS, mqtt.WithServers("wss://h")}, ""},
		{"header for mqtts", "mqtts://h", []mqtt.ConnectOption{withHeader}, "header"},
		{"header function for mqtt", "mqtt://h", []mqtt.ConnectOption{mqtt.WithHeaderFunc(headerFunc)}, "header"},
		{"header for ws", "ws://h", []mqtt.ConnectOption{withHeader}, ""},
		{"TLS given for mqtt", "mqtt://h", []mqtt.ConnectOption{given(mqtt.Credentials{TLS: &tls.Config{}})}, "TLS configuration"},
		{"TLS given for mqtts", "mqtts://h", []mqtt.ConnectOption{given(mqtt.Credentials{TLS: &tls.Config{}})}, ""},
		{"URL in the clear given", "mqtts://h", []mqtt.ConnectOption{withTLS, given(mqtt.Credentials{URL: "mqtt://h"})}, "TLS configuration"},
		{"URL with TLS given", "mqtt://h", []mqtt.ConnectOption{withTLS, given(mqtt.Credentials{URL: "mqtts://h"})}, ""},
		{"header given for mqtt", "mqtt://h", []mqtt.ConnectOption{given(mqtt.Credentials{Header: http.Header{"A": {"b"}}})}, "header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dialled := false
			dial := func(context.Context, string, string) (net.Conn, error) {
				dialled = true
				return nil, errors.New("no network")
			}
			_, err := mqtt.Connect(t.Context(), tt.url, append(tt.opts, mqtt.WithDialer(dial))...)
			bad, refused := errors.AsType[*mqtt.InvalidError](err)
			if refused != (tt.refused != "") || dialled == refused || refused && !strings.Contains(bad.Error(), tt.refused) {
				t.Errorf("dialled %v: %v", dialled, err)
			}
		})
	}
}
