package transport

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/millrace/mqtt/internal/rerun"
)

func TestAllProxy(t *testing.T) {
	const all = "socks5://proxy.test"
	tests := []struct {
		target, all, exempt, want string
	}{
		{"mqtt://broker.test", "", "", ""},
		{"mqtt://broker.test", all, "", all},
		{"mqtt://broker.test", "proxy.test:8080", "", "http://proxy.test:8080"},
		{"mqtt://localhost", all, "", ""},
		{"mqtt://127.0.0.3", all, "", ""},
		{"mqtt://[::1]", all, "", ""},
		{"mqtt://broker.test", all, "*", ""},
		{"mqtt://broker.test", all, "other.test, BROKER.test ,", ""},
		{"mqtt://a.broker.test", all, "broker.test", ""},
		{"mqtt://a.broker.test", all, ".broker.test", ""},
		{"mqtt://a.broker.test", all, "*.broker.test", ""},
		{"mqtt://broker.test", all, ".broker.test", all},
		{"mqtt://mybroker.test", all, "broker.test", all},
		{"mqtt://broker.test", all, "broker.test:1883", ""},
		{"mqtt://broker.test", all, "broker.test:8883", all},
		{"mqtt://10.1.2.3", all, "10.0.0.0/8", ""},
		{"mqtt://11.1.2.3", all, "10.0.0.0/8", all},
		{"mqtt://broker.test", all, "10.0.0.0/8", all},
		{"mqtt://10.1.2.3", all, "10.1.2.3", ""},
		{"mqtt://[fd00::1]", all, "fd00::1", ""},
		{"mqtt://[fd00::1]", all, "[fd00::1]:1883", ""},
		{"mqtt://[fd00::1]", all, "[fd00::1]:1", all},
		{"mqtt://10.1.2.33", all, "10.1.2.3", all},
	}
	for _, tt := range tests {
		got, err := allProxy(mustParse(t, tt.target), tt.all, tt.exempt)
		if err != nil || got == nil && tt.want != "" || got != nil && got.String() != tt.want {
			t.Errorf("%s with ALL_PROXY=%s NO_PROXY=%s: got %v, %v; want %q", tt.target, tt.all, tt.exempt, got, err, tt.want)
		}
	}
	if _, err := allProxy(mustParse(t, "mqtt://b"), "socks5://u:hunter2%zz@p", ""); !isType[*URLError](err) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("malformed ALL_PROXY: got %v", err)
	}
}

// net/http reads the environment once a process, so each case has its own.
func TestProxyFromEnvironment(t *testing.T) {
	if target := os.Getenv("MILLRACE_DIAL"); target != "" {
		printFirstDial(t, target)
		return
	}
	tests := []struct {
		name, target string
		env          []string
		want         string
	}{
		{"TLS", "mqtts://broker.test", []string{"HTTPS_PROXY=http://s.test:1", "HTTP_PROXY=http://p.test:2"}, "s.test:1"},
		{"wss", "wss://broker.test", []string{"HTTPS_PROXY=http://s.test:1"}, "s.test:1"},
		{"plain", "mqtt://broker.test", []string{"HTTPS_PROXY=http://s.test:1", "HTTP_PROXY=http://p.test:2"}, "p.test:2"},
		{"all", "mqtts://broker.test", []string{"ALL_PROXY=socks5://a.test"}, "a.test:1080"},
		{"special before all", "ws://broker.test", []string{"ALL_PROXY=socks5://a.test", "HTTP_PROXY=http://p.test:2"}, "p.test:2"},
		{"exempt", "mqtts://broker.test", []string{"HTTPS_PROXY=http://s.test:1", "ALL_PROXY=socks5://a.test", "NO_PROXY=broker.test"}, "broker.test:8883"},
		{"socket", "unix:///run/x", []string{"ALL_PROXY=socks5://a.test"}, "/run/x"},
		{"malformed, ignored by net/http", "mqtts://broker.test", []string{"HTTPS_PROXY=http://u:hunter2%zz@s.test"}, "broker.test:8883"},
		{"malformed", "mqtts://broker.test", []string{"ALL_PROXY=http://u:hunter2%zz@s.test"}, "no dial, at proxy"},
		{"in a CGI program", "mqtt://broker.test", []string{"HTTP_PROXY=http://u:hunter2@s.test", "REQUEST_METHOD=GET"}, "no dial, at proxy"},
		{"unusable", "mqtts://broker.test", []string{"ALL_PROXY=ftp://u:hunter2@s.test"}, "no dial, at proxy"},
		{"not asked for", "mqtt://broker.test", []string{"HTTP_PROXY=http://p.test:2", "MILLRACE_IGNORE=1"}, "broker.test:1883"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			child := rerun.Command(t.Context(), "-test.run=^TestProxyFromEnvironment$", "-test.v")
			child.Env = append(tt.env, "MILLRACE_DIAL="+tt.target, "GORACE=atexit_sleep_ms=0")
			out, err := child.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "<"+tt.want+">") || strings.Contains(string(out), "hunter2") {
				t.Errorf("%v, want <%s> in:\n%s", err, tt.want, out)
			}
		})
	}
}

func printFirstDial(t *testing.T, target string) {
	dialled := "no dial"
	d := Dialer{
		ProxyFromEnvironment: os.Getenv("MILLRACE_IGNORE") == "",
		DialFunc: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = address
			return nil, errors.New("that is all we want to know")
		},
	}
	_, err := d.Dial(t.Context(), mustParse(t, target))
	if step, ok := errors.AsType[*StepError](err); ok && dialled == "no dial" {
		dialled += ", at " + string(step.Step)
	}
	t.Logf("<%s> %v", dialled, err)
}

func TestCheckProxy(t *testing.T) {
	for raw, part := range map[string]string{
		"http://p": "", "https://p:1/": "", "socks5://u:p@p": "", "socks5h://[::1]:9": "",
		"ftp://p": "scheme", "p:1": "scheme", "http://": "host", "http://:1": "host",
		"http://p:0": "port", "http://p:65536": "port", "http://p/x": "path", "http://p?x": "path", "http://p#x": "path",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		bad, ok := errors.AsType[*URLError](CheckProxy(u))
		if ok != (part != "") || ok && bad.Part != part {
			t.Errorf("%s: got %v, want blame for %q", raw, bad, part)
		}
	}
	if err := CheckProxy(nil); err != nil {
		t.Error(err)
	}
}
