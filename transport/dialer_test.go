package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// world is a network with a server of each kind, and a proxy of each kind.
type world struct {
	*memNet
	pki *pki

	mu     sync.Mutex
	hellos []tls.ClientHelloInfo
	shown  int // client certificates seen
}

func newWorld(t *testing.T) *world {
	w := &world{memNet: newMemNet(t), pki: newPKI(t)}
	w.handlers["broker.test:1883"] = echo
	w.handlers["/run/broker.sock"] = echo
	w.handlers["broker.test:8883"] = w.overTLS(echo)
	w.handlers["other.test:8883"] = w.overTLS(echo)
	w.handlers["[::1]:8883"] = w.overTLS(echo)
	w.handlers["broker.test:80"] = echoWS
	w.handlers["broker.test:443"] = w.overTLS(echoWS)
	w.handlers["proxy.test:3128"] = w.httpProxy
	w.handlers["proxy.test:443"] = w.overTLS(w.httpProxy)
	w.handlers["proxy.test:1080"] = w.socksProxy
	return w
}

func (w *world) overTLS(next func(net.Conn)) func(net.Conn) {
	config := &tls.Config{
		Certificates: []tls.Certificate{w.pki.server},
		ClientAuth:   tls.RequestClientCert,
		NextProtos:   []string{"h2", "http/1.1", "mqtt", "x-amzn-mqtt-ca"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.hellos = append(w.hellos, *hello)
			return nil, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.shown += len(state.PeerCertificates)
			return nil
		},
	}
	return func(conn net.Conn) {
		secure := tls.Server(conn, config)
		defer secure.Close()
		if secure.Handshake() == nil {
			next(secure)
		}
	}
}

// hello returns what the last ClientHello said.
func (w *world) hello() (serverName string, protos []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.hellos[len(w.hellos)-1]
	return last.ServerName, last.SupportedProtos
}

// roundTrip dials and checks that bytes come back.
func roundTrip(ctx context.Context, d *Dialer, u *URL) error {
	conn, err := d.Dial(ctx, u)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "there and back"); err != nil {
		return err
	}
	if !readExactly(conn, "there and back") {
		return errors.New("other bytes came back")
	}
	return nil
}

func TestDialFuncServesEveryTransport(t *testing.T) {
	tests := []struct{ raw, dialled string }{
		{"mqtt://broker.test", "tcp broker.test:1883"},
		{"mqtts://broker.test", "tcp broker.test:8883"},
		{"mqtts://[::1]", "tcp [::1]:8883"},
		{"ws://broker.test/mqtt", "tcp broker.test:80"},
		{"wss://broker.test/mqtt", "tcp broker.test:443"},
		{"unix:///run/broker.sock", "unix /run/broker.sock"},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := Dialer{DialFunc: w.dial, TLS: &tls.Config{RootCAs: w.pki.roots}}
				if err := roundTrip(t.Context(), &d, mustParse(t, tt.raw)); err != nil {
					t.Fatal(err)
				}
				if got := w.addresses(); !slices.Equal(got, []string{tt.dialled}) {
					t.Errorf("dialled %v, want %s", got, tt.dialled)
				}
			})
		})
	}
}

func TestServerNameAndProtocols(t *testing.T) {
	tests := []struct {
		raw, name  string
		config     tls.Config
		wantName   string
		wantProtos []string
	}{
		{"mqtts://broker.test", "from the URL", tls.Config{}, "broker.test", nil},
		{"mqtts://other.test", "of each server", tls.Config{}, "other.test", nil},
		{"mqtts://[::1]", "address", tls.Config{}, "", nil}, // an address is verified, not sent
		{"mqtts://broker.test", "set by the user", tls.Config{ServerName: "other.test"}, "other.test", nil},
		{"mqtts://broker.test", "kept", tls.Config{NextProtos: []string{"x-amzn-mqtt-ca"}}, "broker.test", []string{"x-amzn-mqtt-ca"}},
		{"wss://broker.test", "for the upgrade", tls.Config{}, "broker.test", []string{"http/1.1"}},
		{"wss://broker.test", "without h2", tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "broker.test", []string{"http/1.1"}},
		{"wss://broker.test", "with others", tls.Config{NextProtos: []string{"spdy/3", "h2"}}, "broker.test", []string{"spdy/3", "http/1.1"}},
	}
	w := newWorld(t)
	for i := range tests {
		tt := &tests[i]
		t.Run(tt.raw+" "+tt.name, func(t *testing.T) {
			tt.config.RootCAs = w.pki.roots
			before := tt.config.Clone()
			d := Dialer{DialFunc: w.dial, TLS: &tt.config}
			if err := roundTrip(t.Context(), &d, mustParse(t, tt.raw)); err != nil {
				t.Fatal(err)
			}
			if name, protos := w.hello(); name != tt.wantName || !slices.Equal(protos, tt.wantProtos) {
				t.Errorf("ClientHello says %q %q, want %q %q", name, protos, tt.wantName, tt.wantProtos)
			}
			if tt.config.ServerName != before.ServerName || !reflect.DeepEqual(tt.config.NextProtos, before.NextProtos) {
				t.Error("the user's config was changed")
			}
		})
	}
}

func TestClientCertificateForEachAttempt(t *testing.T) {
	w := newWorld(t)
	calls := 0
	config := &tls.Config{RootCAs: w.pki.roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		calls++
		return &w.pki.client, nil
	}}
	d := Dialer{DialFunc: w.dial, TLS: config}
	for range 3 {
		if err := roundTrip(t.Context(), &d, mustParse(t, "mqtts://broker.test")); err != nil {
			t.Fatal(err)
		}
	}
	if calls != 3 || w.shown != 3 {
		t.Errorf("asked %d times, shown %d times; want 3", calls, w.shown)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	w := newWorld(t)
	w.handlers["wrong.test:8883"] = w.handlers["broker.test:8883"]
	tests := []struct {
		name, raw string
		roots     *x509.CertPool
		step      Step
		is        func(error) bool
	}{
		{"untrusted", "mqtts://broker.test", x509.NewCertPool(), StepTLS, isType[x509.UnknownAuthorityError]},
		{"verification", "wss://broker.test", x509.NewCertPool(), StepTLS, isType[*tls.CertificateVerificationError]},
		{"wrong name", "mqtts://wrong.test", w.pki.roots, StepTLS, isType[x509.HostnameError]},
		{"no TLS there", "mqtts://broker.test:1883", nil, StepTLS, isType[tls.RecordHeaderError]},
		{"no way", "mqtt://nowhere.test", nil, StepDial, isType[*net.OpError]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.handlers["broker.test:1883"] = func(conn net.Conn) {
				_, _ = io.WriteString(conn, "\x20\x02\x00\x00\x00")
				_, _ = io.Copy(io.Discard, conn)
			}
			d := Dialer{DialFunc: w.dial, TLS: &tls.Config{RootCAs: tt.roots}}
			_, err := d.Dial(t.Context(), mustParse(t, strings.Replace(tt.raw, "://", "://me:hunter2@", 1)))
			step, ok := errors.AsType[*StepError](err)
			if !ok || step.Step != tt.step || !tt.is(err) {
				t.Fatalf("got %#v, want a StepError at %s that unwraps", err, tt.step)
			}
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
			w.mustAllBeClosed()
		})
	}
}

func isType[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestDialEndsWithItsContextOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := Dialer{DialFunc: w.dial, TLS: &tls.Config{RootCAs: w.pki.roots}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		conn, err := d.Dial(ctx, mustParse(t, "wss://broker.test"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // virtual: the deadline is long past
		cancel()
		synctest.Wait()
		if _, err := conn.Write([]byte("still up")); err != nil || !readExactly(conn, "still up") {
			t.Errorf("the end of the dial's context ended the connection: %v", err)
		}
		_ = conn.Close()

		before := len(w.addresses())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if conn, err := d.Dial(ended, mustParse(t, "mqtt://broker.test")); conn != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v, %v", conn, err)
		}
		if got := len(w.addresses()); got != before {
			t.Errorf("dialled %d times with an ended context", got-before)
		}
		w.mustAllBeClosed()
	})
}

// The context may end after the last step and before Dial returns.
func TestDialWhoseContextEndsAtTheEnd(t *testing.T) {
	n := newMemNet(t)
	n.handlers["broker.test:1883"] = echo
	ctx, cancel := context.WithCancel(t.Context())
	d := Dialer{DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
		defer cancel()
		return n.dial(ctx, network, address)
	}}
	conn, err := d.Dial(ctx, mustParse(t, "mqtt://broker.test"))
	if conn != nil || !isType[*StepError](err) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v; want an error of the context", conn, err)
	}
	n.mustAllBeClosed()
}

func TestDialRefusesWhatParseDidNotMake(t *testing.T) {
	var d Dialer
	if _, err := d.Dial(t.Context(), &URL{Scheme: "http", Host: "h"}); !isType[*URLError](err) {
		t.Errorf("got %v, want a *URLError", err)
	}
	d.DialFunc = func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	if _, err := d.Dial(t.Context(), mustParse(t, "mqtt://h")); !isType[*StepError](err) {
		t.Errorf("DialFunc without a result: got %v", err)
	}
}

// crypto/tls alone would wait 5 s to say goodbye to a peer that does not read.
func TestTLSCloseIsQuick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, raw := range []string{"mqtts://broker.test", "wss://broker.test"} {
			w := newWorld(t)
			d := Dialer{DialFunc: w.dial, TLS: &tls.Config{RootCAs: w.pki.roots}}
			conn, err := d.Dial(t.Context(), mustParse(t, raw))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok != (raw[:4] == "mqtt") {
				t.Errorf("%s: TLS state reachable: %v", raw, ok)
			}
			w.clients[0].out.update(func(s *memStream) { s.room = 0 })
			start := time.Now()
			_ = conn.Close()
			if took := time.Since(start); took > 2*closeGrace {
				t.Errorf("%s: Close took %v", raw, took)
			}
			w.mustAllBeClosed()
		}
	})
}

func mustURL(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
