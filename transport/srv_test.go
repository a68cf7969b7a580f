package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTargets(t *testing.T) {
	records := []*net.SRV{{Target: "a.test.", Port: 1}, {Target: "b.test.", Port: 2}}
	failed := &net.DNSError{Err: "server misbehaving"}
	tests := []struct {
		raw     string
		records []*net.SRV
		err     error
		asked   string
		want    string
	}{
		{"mqtt+srv://d.test", records, nil, "_mqtt._tcp.d.test", "mqtt://a.test:1 mqtt://b.test:2"},
		{"mqtts+srv://u:p@d.test", records, nil, "_secure-mqtt._tcp.d.test", "mqtts://a.test:1 mqtts://b.test:2"},
		{"mqtt+srv://d.test", records[:1], failed, "_mqtt._tcp.d.test", "mqtt://a.test:1"},
		{"mqtt+srv://d.test", nil, failed, "_mqtt._tcp.d.test", "error"},
		{"mqtt+srv://d.test", []*net.SRV{{Target: "."}}, nil, "_mqtt._tcp.d.test", "error"},
		{"mqtt://d.test", nil, nil, "", "mqtt://d.test:1883"},
	}
	for _, tt := range tests {
		asked := ""
		d := Dialer{LookupSRV: func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
			asked = fmt.Sprintf("_%s._%s.%s", service, proto, name)
			return "", tt.records, tt.err
		}}
		targets, err := d.Targets(t.Context(), mustParse(t, tt.raw))
		var got []string
		for _, u := range targets {
			got = append(got, u.String())
		}
		if asked != tt.asked || tt.want != "error" && (err != nil || strings.Join(got, " ") != tt.want) {
			t.Errorf("%s: asked %q, got %v, %v; want %q, %s", tt.raw, asked, got, err, tt.asked, tt.want)
		}
		if tt.want == "error" {
			step, ok := errors.AsType[*StepError](err)
			if !ok || step.Step != StepResolve || tt.err == nil != errors.Is(err, ErrNoSRVTarget) || tt.err != nil && !errors.Is(err, failed) {
				t.Errorf("%s: got %v, want a StepError at resolve", tt.raw, err)
			}
		}
	}
	d := Dialer{LookupSRV: func(context.Context, string, string, string) (string, []*net.SRV, error) { return "", records, nil }}
	targets, err := d.Targets(t.Context(), mustParse(t, "mqtts+srv://u:p@d.test"))
	if err != nil {
		t.Fatal(err)
	}
	if password, ok := targets[1].Password(); !ok || password != "p" {
		t.Error("the targets lost the credentials")
	}
}

func TestDialTriesTheTargetsInTurn(t *testing.T) {
	lookup := func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", []*net.SRV{{Target: "silent.test", Port: 1}, {Target: "down.test", Port: 1}, {Target: "broker.test", Port: 8883}}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.handlers["silent.test:1"] = func(conn net.Conn) { conn.(*memConn).waitForPeer() }
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		start := time.Now()

		strict := Dialer{DialFunc: w.dial, LookupSRV: lookup, TLS: &tls.Config{RootCAs: x509.NewCertPool()}}
		_, err := strict.Dial(ctx, mustParse(t, "mqtts+srv://u:hunter2@d.test"))
		if took := time.Since(start); err == nil || took != 3*time.Second {
			t.Fatalf("got %v after %v, want an error after 3s, the silent server's third of the time", err, took)
		}
		for _, server := range []string{"silent.test:1", "down.test:1", "broker.test:8883"} {
			if !strings.Contains(err.Error(), server) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error does not name %s, or shows the password: %v", server, err)
			}
		}
		w.mustAllBeClosed()

		trusting := Dialer{DialFunc: w.dial, LookupSRV: lookup, TLS: &tls.Config{RootCAs: w.pki.roots}}
		if err := roundTrip(ctx, &trusting, mustParse(t, "mqtts+srv://d.test")); err != nil {
			t.Errorf("the third server is up: %v", err)
		}
	})
}
