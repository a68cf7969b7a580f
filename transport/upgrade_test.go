package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestUpgradeRequest(t *testing.T) {
	calls := 0
	d := Dialer{
		Header: http.Header{"origin": {"https://site.test"}, "Cookie": {"a=1"}, "X-Signed": {"old"}},
		HeaderFunc: func(_ context.Context, u *URL) (http.Header, error) {
			calls++
			return http.Header{"x-signed": {strings.Repeat("n", calls)}, "X-Query": {u.RawQuery()}}, nil
		},
		Subprotocols: []string{"mqtt", "mqttv3.1"},
	}
	for attempt := 1; attempt <= 2; attempt++ {
		_, peer := dialWS(t, d, "ws://user:hunter2@broker.test/a%2Fb/c?tok=1%202")
		r := peer.request
		want := map[string]string{
			"Origin": "https://site.test", "Cookie": "a=1", "Sec-WebSocket-Protocol": "mqtt, mqttv3.1",
			"Sec-WebSocket-Version": "13", "Authorization": "", "X-Query": "tok=1%202",
			"X-Signed": strings.Repeat("n", attempt), // computed for each attempt
		}
		for name, value := range want {
			if got := strings.Join(r.Header.Values(name), "|"); got != value {
				t.Errorf("attempt %d: %s is %q, want %q", attempt, name, got, value)
			}
		}
		if r.RequestURI != "/a%2Fb/c?tok=1%202" || r.Host != "broker.test" {
			t.Errorf("got %s at host %s", r.RequestURI, r.Host)
		}
	}
	if d.Header.Get("X-Signed") != "old" || len(d.Header) != 3 {
		t.Errorf("the user's header was changed: %v", d.Header)
	}
}

func TestAnswersThatAreNoUpgrade(t *testing.T) {
	tests := []struct {
		name, answer string
		status       int
		body         string
	}{
		{"forbidden", "HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nbad token", 403, "bad token"},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: wss://x\r\nContent-Length: 0\r\n\r\n", 302, ""},
		{"long body", "HTTP/1.1 500 Oops\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("e", 5000), 500, strings.Repeat("e", 512)},
		{"wrong accept key", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
			"Sec-WebSocket-Accept: bm90IGl0\r\n\r\n", 101, ""},
		{"ordinary page", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi"},
		{"no HTTP", "\x20\x02\x00\x00\r\n\r\n", 0, ""},
		{"endless header", "HTTP/1.1 101 OK\r\nA: " + strings.Repeat("x", 2*maxAnswer), 0, ""},
		{"cut", "HTTP/1.1 101 Swi", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newMemNet(t)
			n.handlers["broker.test:80"] = func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, tt.answer)
			}
			d := Dialer{DialFunc: n.dial}
			_, err := d.Dial(t.Context(), mustParse(t, "ws://broker.test/?token=hunter2"))
			step, ok := errors.AsType[*StepError](err)
			if !ok || step.Step != StepWebSocket || strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("got %v, want a StepError at websocket", err)
			}
			bad, ok := errors.AsType[*HandshakeError](err)
			if ok != (tt.status != 0) || ok && (bad.Status != tt.status || string(bad.Body) != tt.body) {
				t.Errorf("got %v, want status %d and body %q", err, tt.status, tt.body)
			}
			n.mustAllBeClosed()
		})
	}
}

func TestSubprotocol(t *testing.T) {
	tests := []struct {
		name, chosen string
		d            Dialer
		ok           bool
	}{
		{"mqtt", "mqtt", Dialer{}, true},
		{"3.1", "mqttv3.1", Dialer{Subprotocols: []string{"mqtt", "mqttv3.1"}}, true},
		{"missing", "", Dialer{}, false},
		{"missing tolerated", "", Dialer{AllowMissingSubprotocol: true}, true},
		{"wrong", "chat", Dialer{}, false},
		{"wrong is not missing", "chat", Dialer{AllowMissingSubprotocol: true}, false},
		{"case counts", "MQTT", Dialer{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newMemNet(t)
			n.handlers["broker.test:80"] = func(conn net.Conn) { _, _ = acceptWS(conn, tt.chosen) }
			tt.d.DialFunc = n.dial
			conn, err := tt.d.Dial(t.Context(), mustParse(t, "ws://broker.test"))
			if tt.ok {
				if err != nil || conn.(*WebSocketConn).Subprotocol() != tt.chosen {
					t.Fatalf("got %v, %v", conn, err)
				}
				return
			}
			bad, ok := errors.AsType[*SubprotocolError](err)
			if !ok || bad.Chosen != tt.chosen || !slices.Equal(bad.Offered, []string{"mqtt"}) {
				t.Errorf("got %v, want a SubprotocolError", err)
			}
			n.mustAllBeClosed()
		})
	}
}
