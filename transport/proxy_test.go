package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestProxies(t *testing.T) {
	proxies := map[string]string{
		"http://user:hunter2@proxy.test:3128": "tcp proxy.test:3128",
		"https://user:hunter2@proxy.test":     "tcp proxy.test:443",
		"socks5://user:hunter2@proxy.test":    "tcp proxy.test:1080",
		"socks5h://user:hunter2@proxy.test":   "tcp proxy.test:1080",
	}
	for raw, dialled := range proxies {
		for _, target := range []string{"mqtt://broker.test", "mqtts://broker.test", "ws://broker.test", "wss://broker.test"} {
			t.Run(raw[:7]+target, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					d := Dialer{
						DialFunc: w.dial, Proxy: mustURL(t, raw),
						TLS:      &tls.Config{RootCAs: w.pki.roots, Certificates: []tls.Certificate{w.pki.client}},
						ProxyTLS: &tls.Config{RootCAs: w.pki.roots},
					}
					u := mustParse(t, target)
					if err := roundTrip(t.Context(), &d, u); err != nil {
						t.Fatal(err)
					}
					if got := w.addresses(); !slices.Equal(got, []string{dialled}) {
						t.Errorf("dialled %v, want only the proxy %s", got, dialled)
					}
					if u.TLS() {
						if name, _ := w.hello(); name != "broker.test" {
							t.Errorf("server name through the proxy: %q", name)
						}
					}
					if want := map[bool]int{true: 1}[u.TLS()]; w.shown != want {
						t.Errorf("the client certificate was shown %d times, want %d: to the server only", w.shown, want)
					}
				})
			})
		}
	}
}

func TestProxyErrorsNameTheProxy(t *testing.T) {
	tests := []struct{ name, proxy, target, want string }{
		{"unreachable", "http://user:hunter2@nowhere.test:1", "mqtt://broker.test", "no such host in memory"},
		{"bad credentials", "http://user:wronghunter2@proxy.test:3128", "mqtt://broker.test", `407 "Who are you"`},
		{"no way", "http://user:hunter2@proxy.test:3128", "mqtt://nowhere.test", `502 "no way to it"`},
		{"untrusted", "https://user:hunter2@proxy.test", "mqtt://broker.test", "unknown authority"},
		{"socks credentials", "socks5://user:Hunter2@proxy.test", "mqtt://broker.test", "username/password"},
		{"socks no way", "socks5://user:hunter2@proxy.test", "mqtt://nowhere.test", "host unreachable"},
		{"unknown scheme", "ftp://user:hunter2@proxy.test", "mqtt://broker.test", `unknown "ftp"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			d := Dialer{DialFunc: w.dial, Proxy: mustURL(t, tt.proxy)}
			_, err := d.Dial(t.Context(), mustParse(t, tt.target))
			step, ok := errors.AsType[*StepError](err)
			if !ok || step.Step != StepProxy || !strings.Contains(step.Proxy, ".test") {
				t.Fatalf("got %v, want a StepError of the proxy", err)
			}
			text := err.Error()
			if !strings.Contains(text, tt.want) || !strings.Contains(text, "via ") || strings.Contains(strings.ToLower(text), "hunter2") {
				t.Errorf("got %q, want it to say %q and no password", text, tt.want)
			}
			w.mustAllBeClosed()
		})
	}
}

func TestProxyThatTalksAhead(t *testing.T) {
	for name, answer := range map[string]string{
		"data behind the answer": "HTTP/1.1 200 OK\r\n\r\nearly",
		"endless header":         "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 2*maxProxyAnswer),
		"no HTTP":                "\x05\x00",
	} {
		t.Run(name, func(t *testing.T) {
			n := newMemNet(t)
			n.handlers["proxy.test:80"] = func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, answer)
			}
			d := Dialer{DialFunc: n.dial, Proxy: mustURL(t, "http://proxy.test")}
			_, err := d.Dial(t.Context(), mustParse(t, "mqtt://broker.test"))
			if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepProxy {
				t.Errorf("got %v, want a StepError of the proxy", err)
			}
			n.mustAllBeClosed()
		})
	}
}
