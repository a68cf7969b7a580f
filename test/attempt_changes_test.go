package mqtt_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// changeable is a server on four addresses that notes what each attempt showed it.
type changeable struct {
	network server.Network
	certs   [2]tls.Certificate // of server:8883 and server:8884
	known   map[string]string  // client certificates by their bytes

	mu   sync.Mutex
	seen []string
}

func (c *changeable) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, fmt.Sprintf(format, args...))
}

// tls wants a client certificate, and notes whose it is.
func (c *changeable) tls(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAnyClientCert,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			c.note("certificate %s", c.known[string(raw[0])])
			return nil
		},
	}
}

// start serves plain TCP, TLS with two certificates and WebSocket.
func (c *changeable) start(t *testing.T) {
	srv := server.New(server.Config{OnConnect: func(p *codec.Connect) (codec.ReasonCode, *codec.Properties) {
		c.note("user %q %t, password %q %t", p.Username, p.HasUsername, p.Password, p.HasPassword)
		if bytes.HasSuffix(p.Password, []byte("old")) {
			return codec.BadUserNameOrPassword, nil
		}
		return codec.Success, nil
	}})
	go srv.Serve(listen(t, &c.network, "server:1883"))
	go srv.Serve(tls.NewListener(listen(t, &c.network, "server:8883"), c.tls(c.certs[0])))
	go srv.Serve(tls.NewListener(listen(t, &c.network, "server:8884"), c.tls(c.certs[1])))
	upgraded := &handedListener{conns: make(chan net.Conn), done: make(chan struct{})}
	go srv.Serve(upgraded)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.note("upgrade %s, fixed %q, token %q", r.URL, r.Header.Get("X-Fixed"), r.Header.Get("Authorization"))
		if strings.HasSuffix(r.Header.Get("Authorization"), "old") {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		ws, err := (&websocket.Upgrader{Subprotocols: []string{"mqtt"}}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		upgraded.conns <- &webConn{Conn: ws}
	})}
	go web.Serve(listen(t, &c.network, "server:80"))
	t.Cleanup(func() { srv.Close(); web.Close() })
}

// handedListener accepts what it is handed.
type handedListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *handedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *handedListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *handedListener) Addr() net.Addr { return server.Addr("upgraded") }

// webConn is the server's end of a WebSocket as a stream.
type webConn struct {
	*websocket.Conn
	message io.Reader
}

func (c *webConn) Read(p []byte) (int, error) {
	for {
		if c.message != nil {
			n, err := c.message.Read(p)
			if n > 0 || err != io.EOF {
				return n, err
			}
		}
		var err error
		if _, c.message, err = c.NextReader(); err != nil {
			return 0, err
		}
	}
}

func (c *webConn) Write(p []byte) (int, error) {
	return len(p), c.WriteMessage(websocket.BinaryMessage, p)
}

func (c *webConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// changedAttempt is one attempt: what the credentials function returns, what the
// server sees, and the step at which it fails; empty when it succeeds.
type changedAttempt struct {
	creds mqtt.Credentials
	err   error
	seen  []string
	step  string
}

// trusting trusts the certificate of a server alone.
func (c *changeable) trusting(t *testing.T, theirs, own tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(theirs.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}
}

// attempts change everything that may change; own are the client's certificates.
func (c *changeable) attempts(t *testing.T, own [2]tls.Certificate) []changedAttempt {
	token := func(s string) http.Header { return http.Header{"Authorization": {s}} }
	return []changedAttempt{
		{creds: mqtt.Credentials{Username: str("u1"), Password: []byte("s3cret1 old")}, step: "CONNACK",
			seen: []string{`user "u1" true, password "s3cret1 old" true`}},
		{err: errors.New("the vault is sealed"), step: "credentials"},
		{creds: mqtt.Credentials{URL: "mqtts://server", TLS: c.trusting(t, c.certs[1], own[0])}, step: "tls"}, // the wrong roots
		{creds: mqtt.Credentials{URL: "mqtts://server", TLS: c.trusting(t, c.certs[0], own[0]), Username: str("u4"), Password: []byte("s3cret4 old")}, step: "CONNACK",
			seen: []string{"certificate mine 0", `user "u4" true, password "s3cret4 old" true`}},
		{creds: mqtt.Credentials{URL: "mqtts://u5:s3cret5@server:8884", TLS: c.trusting(t, c.certs[1], own[1])},
			seen: []string{"certificate mine 1", `user "u5" true, password "s3cret5" true`}},
		{creds: mqtt.Credentials{URL: "ws://server/a?sig=s3cret6", Header: token("s3cret6 old")}, step: "websocket",
			seen: []string{`upgrade /a?sig=s3cret6, fixed "", token "s3cret6 old"`}},
		{creds: mqtt.Credentials{URL: "ws://server/b?sig=s3cret7", Header: token("s3cret7"), Password: []byte("s3cret7")},
			seen: []string{`upgrade /b?sig=s3cret7, fixed "", token "s3cret7"`, `user "" false, password "s3cret7" true`}},
		{creds: mqtt.Credentials{URL: "ws://server/c"}, // back to the option's header
			seen: []string{`upgrade /c, fixed "x", token ""`, `user "" false, password "" false`}},
		{creds: mqtt.Credentials{}, // back to the URL of Connect
			seen: []string{`user "" false, password "" false`}},
	}
}

// untilOutcome reads events until an attempt has failed or succeeded; text is what
// they print.
func untilOutcome(conn *mqtt.Conn) (text string, failure error) {
	for failure == nil {
		ev := <-conn.Events()
		text += fmt.Sprintf("%v %+v %#v\n", ev, ev, ev)
		if r, ok := ev.(mqtt.Retrying); ok {
			failure = r.Err
		} else if _, ok := ev.(mqtt.Connected); ok {
			break
		}
	}
	return text, failure
}

// The credentials function may change user, password, URL, WebSocket headers, TLS
// configuration and client certificate for each attempt; its error is a failed
// attempt; nothing of it shows in logs, events, errors and the hook.
func TestEverythingMayChangePerAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changeable{certs: [2]tls.Certificate{selfSigned(t), selfSigned(t)}, known: map[string]string{}}
		mine := [2]tls.Certificate{selfSigned(t), selfSigned(t)}
		for i, cert := range mine {
			c.known[string(cert.Certificate[0])] = fmt.Sprint("mine ", i)
		}
		c.start(t)
		attempts := c.attempts(t, mine)
		calls := 0
		var log, hooked logBuffer
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(c.network.Dial), mqtt.WithVersions(mqtt.V5),
			mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithBackoff(steady(time.Second)),
			mqtt.WithHeader(http.Header{"X-Fixed": {"x"}}), mqtt.WithTLS(&tls.Config{ServerName: "nobody"}),
			mqtt.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			mqtt.WithPacketHook(func(p mqtt.PacketInfo) { fmt.Fprintf(&hooked, "%+v\n", p) }),
			mqtt.WithCredentialsFunc(func(ctx context.Context) (mqtt.Credentials, error) {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("the context has not the deadline of the attempt")
				}
				calls++
				return attempts[calls-1].creds, attempts[calls-1].err
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		text := ""
		for i, a := range attempts {
			shown, failure := untilOutcome(conn)
			text += shown
			c.mu.Lock()
			if !slices.Equal(c.seen, a.seen) {
				t.Errorf("attempt %d: the server saw %q, want %q", i+1, c.seen, a.seen)
			}
			c.seen = nil
			c.mu.Unlock()
			e, _ := errors.AsType[*mqtt.ConnectError](failure)
			if a.step == "" != (failure == nil) || e != nil && e.Step != a.step || a.err != nil && !errors.Is(failure, a.err) {
				t.Errorf("attempt %d: %v, want a failure at %q", i+1, failure, a.step)
			}
			if failure != nil {
				text += fmt.Sprintf("%v %+v %#v\n", failure, failure, failure)
				continue
			}
			if i < len(attempts)-1 {
				time.Sleep(time.Minute) // no flap
				c.network.CutAll()
				text += fmt.Sprintf("%+v\n", await[mqtt.Disconnected](t, conn.Events()))
				await[mqtt.Retrying](t, conn.Events())
			}
		}
		text += log.String() + hooked.String()
		if at := strings.Index(text, "s3cret"); at >= 0 {
			t.Errorf("a secret shows: ...%s", text[max(0, at-300):at+10])
		}
	})
}
