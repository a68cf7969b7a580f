package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		raw, network, address, path, text string
		tls, ws                           bool
	}{
		{"mqtt://h", "tcp", "h:1883", "", "mqtt://h:1883", false, false},
		{"tcp://h:1/", "tcp", "h:1", "", "tcp://h:1", false, false},
		{"MQTT://h:65535", "tcp", "h:65535", "", "mqtt://h:65535", false, false},
		{"mqtt://h:", "tcp", "h:1883", "", "mqtt://h:1883", false, false},
		{"mqtts://h", "tcp", "h:8883", "", "mqtts://h:8883", true, false},
		{"ssl://h", "tcp", "h:8883", "", "ssl://h:8883", true, false},
		{"tls://10.0.0.1", "tcp", "10.0.0.1:8883", "", "tls://10.0.0.1:8883", true, false},
		{"ws://h", "tcp", "h:80", "/", "ws://h:80/", false, true},
		{"wss://h/a%20b/c?x=1&y=2", "tcp", "h:443", "/a%20b/c", "wss://h:443/a%20b/c?xxxxx", true, true},
		{"mqtt://[::1]", "tcp", "[::1]:1883", "", "mqtt://[::1]:1883", false, false},
		{"ws://[fe80::1%25eth0]:81/m", "tcp", "[fe80::1%eth0]:81", "/m", "ws://[fe80::1%25eth0]:81/m", false, true},
		{"unix:///run/x.sock", "unix", "/run/x.sock", "/run/x.sock", "unix:///run/x.sock", false, false},
		{"unix:/run/x.sock", "unix", "/run/x.sock", "/run/x.sock", "unix:///run/x.sock", false, false},
		{"unix://u:p@/run/a%20b", "unix", "/run/a b", "/run/a b", "unix:///run/a%20b", false, false},
		{"mqtt+srv://example.com", "tcp", "example.com", "", "mqtt+srv://example.com", false, false},
		{"mqtts+srv://u@example.com", "tcp", "example.com", "", "mqtts+srv://example.com", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			u, err := Parse(tt.raw)
			if err != nil {
				t.Fatal(err)
			}
			if u.Network() != tt.network || u.Address() != tt.address {
				t.Errorf("got %s %s, want %s %s", u.Network(), u.Address(), tt.network, tt.address)
			}
			if u.Path != tt.path || u.String() != tt.text {
				t.Errorf("got path %q text %q, want %q %q", u.Path, u, tt.path, tt.text)
			}
			if u.TLS() != tt.tls || u.WebSocket() != tt.ws || u.SRV() != strings.Contains(tt.raw, "srv:") {
				t.Errorf("got tls %v ws %v srv %v", u.TLS(), u.WebSocket(), u.SRV())
			}
		})
	}
}

func TestParseCredentials(t *testing.T) {
	tests := []struct {
		raw, name, password  string
		hasName, hasPassword bool
	}{
		{"mqtt://h", "", "", false, false},
		{"mqtt://@h", "", "", false, false},
		{"mqtt://u@h", "u", "", true, false},
		{"mqtt://u:@h", "u", "", true, true},
		{"mqtt://:token@h", "", "token", false, true},
		{"wss://a%40b:p%3A%2F%23%3F%25@h/x", "a@b", "p:/#?%", true, true},
	}
	for _, tt := range tests {
		u, err := Parse(tt.raw)
		if err != nil {
			t.Errorf("%s: %v", tt.raw, err)
			continue
		}
		if name, ok := u.Username(); name != tt.name || ok != tt.hasName {
			t.Errorf("%s: user name %q, %v", tt.raw, name, ok)
		}
		if password, ok := u.Password(); password != tt.password || ok != tt.hasPassword {
			t.Errorf("%s: password %q, %v", tt.raw, password, ok)
		}
	}
	var zero URL
	if _, ok := zero.Username(); ok {
		t.Error("the zero URL has a user name")
	}
	if _, ok := zero.Password(); ok || zero.RawQuery() != "" {
		t.Error("the zero URL has a password or query")
	}
}

// badURLs are not accepted; part is what the error blames.
var badURLs = []struct{ raw, part string }{
	{"", "scheme"},
	{"hunter2", "scheme"},
	{"//u:hunter2@h", "scheme"},
	{"http://u:hunter2@h", "scheme"},
	{"localhost:1883", "scheme"},
	{"127.0.0.1:1883", "url"},
	{"mqtt://", "host"},
	{"mqtt://u:hunter2@", "host"},
	{"mqtt://u:hunter2@:1883", "host"},
	{"mqtt:h", "host"},
	{"mqtt://u:hunter2@h:0", "port"},
	{"mqtt://u:hunter2@h:65536", "port"},
	{"mqtt://u:hunter2@h:99999999999999999999", "port"},
	{"mqtt://u:hunter2@h:-1", "url"},
	{"mqtt://u:hunter2@h:x", "url"},
	{"mqtt://u:hunter2@h#f", "fragment"},
	{"mqtt://u:hunter2@h#", "fragment"},
	{"mqtt://u:hun#ter2@h", "url"},
	{"mqtt://u:1#hunter2@h", "fragment"},
	{"mqtt://u:1/hunter2@h", "path"},
	{"mqtt://u:1?hunter2@h", "query"},
	{"mqtt://u:hunter2%@h", "url"},
	{"mqtt://u:hunter2%zz@h", "url"},
	{"mqtt://u:hunter2 @h", "url"},
	{"mqtt://u:hunter2\x00@h", "url"},
	{"mqtt://u:hunter2@h\n", "url"},
	{"mqtt://u:hunter2@h h", "host"},
	{"mqtt://u:hunter2@h/path", "path"},
	{"mqtt://u:hunter2@h?q=1", "query"},
	{"mqtt://u:hunter2@h?", "query"},
	{"mqtt://u:hunter2@[h]", ""},
	{"mqtt://u:hunter2@[1.2.3.4]", ""},
	{"mqtt://u:hunter2@[::1", "url"},
	{"mqtt://u:hunter2@::1", ""},
	{"mqtt://u:hunter2@::1:1883", ""},
	{"ws://%25", "host"},
	{"mqtt://a%25b", "host"},
	{"mqtt://b\u00fccher.example", "host"},
	{"mqtt://[fe80::1%25a%20b]", "host"},
	{"unix://", "path"},
	{"unix:", "path"},
	{"unix:///", "path"},
	{"unix:hunter2", "path"},
	{"unix:///a%00b", "path"},
	{"unix://run/hunter2", "host"},
	{"unix:///run/x?hunter2", "query"},
	{"mqtt+srv://u:hunter2@h:1883", "port"},
	{"mqtt+srv://u:hunter2@10.0.0.1", "host"},
	{"mqtt+srv://u:hunter2@h/x", "path"},
}

// hunter2 stands in every bad URL below; no error may repeat it.
func TestBadURLs(t *testing.T) {
	for _, tt := range badURLs {
		u, err := Parse(tt.raw)
		bad, ok := errors.AsType[*URLError](err)
		if !ok || u != nil {
			t.Errorf("%q: got %v, %v; want a *URLError and no URL", tt.raw, u, err)
			continue
		}
		if tt.part != "" && bad.Part != tt.part {
			t.Errorf("%q: blames the %s, want the %s (%v)", tt.raw, bad.Part, tt.part, err)
		}
		if text := err.Error(); tt.raw != "hunter2" && strings.Contains(text, "ter2") {
			t.Errorf("%q: the error repeats the password: %s", tt.raw, text)
		}
	}
}

func TestNoFormShowsTheSecrets(t *testing.T) {
	u, err := Parse("wss://me:hunter2@h/mqtt?X-Amz-Signature=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	type nested struct {
		Public *URL
		Value  URL
		hidden URL
		link   *URL
	}
	var out strings.Builder
	for _, v := range []any{u, *u, nested{u, *u, *u, u}, &nested{u, *u, *u, u}, []*URL{u}, map[string]URL{"a": *u}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("dial", "url", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("dial", "url", v)
	}
	if text := out.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") {
		t.Errorf("a secret shows:\n%s", text)
	}
	if got, want := u.String(), "wss://h:443/mqtt?xxxxx"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%#v", u), `transport.URL("wss://h:443/mqtt?xxxxx")`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Whatever the input: no panic, no secret in any text, and the printed form
// is a URL for the same place.
func FuzzParse(f *testing.F) {
	for _, raw := range []string{
		"mqtt://u:p@h:1883", "wss://h/p?q", "unix:/x", "mqtt+srv://d", "ws://[fe80::1%25e]:1/%2f",
		"mqtt://[::1]", "tcp://a%20b@h", "unix:///a%20b", "mqtt://h:0", "::", "mqtt://é", "ws://h//@x", "mqtt://h%C3%A9",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := Parse(raw)
		if err != nil {
			if _, ok := errors.AsType[*URLError](err); !ok || u != nil {
				t.Fatalf("%q: got %v, %T", raw, u, err)
			}
			return
		}
		if u.Address() == "" || u.kind() == (kind{}) {
			t.Fatalf("%q: no place to dial: %#v", raw, u)
		}
		again, err := Parse(u.String())
		if err != nil {
			t.Fatalf("%q: the printed form %q does not parse: %v", raw, u, err)
		}
		if again.Address() != u.Address() || again.Path != u.Path || again.String() != u.String() {
			t.Fatalf("%q: %q and %q differ", raw, u, again)
		}
		if password, _ := u.Password(); len(password) > 12 {
			rest := strings.ReplaceAll(raw, password, "")
			if strings.Contains(u.String(), password) && !strings.Contains(rest, password) && strings.Count(raw, password) == 1 {
				t.Fatalf("%q: the printed form shows the password", raw)
			}
		}
	})
}
