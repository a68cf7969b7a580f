package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/mqtt/bench/raw"
)

// TestMain lets the test binary be the server and client processes of its own
// runs, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && strings.HasPrefix(os.Args[1], rolePrefix) {
		if err := runRole(os.Args[1], os.Args[2]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// TestScenarios runs every client in every scenario for a moment.
func TestScenarios(t *testing.T) {
	// The race detector makes each process sleep 1 s at its end by default, and
	// this test starts more than a hundred.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	p, err := newPlan(config{Topic: "a/b/c/d", Size: 64, Window: 100}, "", "")
	if err != nil {
		t.Fatal(err)
	}
	p.runs, p.target = 1, 5*time.Millisecond
	for i := range p.scenarios {
		p.scenarios[i].probe /= 10
	}
	results, err := p.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(results), len(p.scenarios)*len(p.clients); got != want {
		t.Errorf("%d results, want %d", got, want)
	}
	for _, r := range results {
		switch {
		case r.Unsupported:
		case r.Scenario == idleName && r.Goroutines < 1:
			t.Errorf("%s: %.1f goroutines for an idle connection", r.Client, r.Goroutines)
		case r.Scenario != idleName && r.CPU <= 0:
			t.Errorf("%s in %s: no CPU time", r.Client, r.Scenario)
		}
	}
	var table bytes.Buffer
	if err := printTable(&table, p, results); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.scenarios {
		if !strings.Contains(table.String(), s.about) {
			t.Errorf("the table lacks %s", s.name)
		}
	}
}

// TestClientsPublishTheirCount guards the denominators: a client that sends
// fewer messages than it is charged for would look fast.
func TestClientsPublishTheirCount(t *testing.T) {
	const n, window = 1003, 100
	for _, a := range adapters() {
		for qos := range byte(3) {
			t.Run(a.name, func(t *testing.T) {
				server, err := raw.Listen(raw.Source{})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				c, err := a.dial(ctx, server.Addr(), "count")
				if err != nil {
					t.Fatal(err)
				}
				m := message{topic: "a/b", payload: make([]byte, 8), qos: qos}
				if err := c.publish(ctx, m, n, window); err != nil {
					t.Fatal(err)
				}
				if err := c.publishWait(ctx, m); err != nil {
					t.Fatal(err)
				}
				if got := server.Received(); got != n+1 {
					t.Errorf("the server has %d messages at QoS %d, want %d", got, qos, n+1)
				}
				if err := c.close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestMedian(t *testing.T) {
	var results []result
	for _, cpu := range []float64{9, 1, 5, 7} {
		results = append(results, result{Scenario: "s", Client: "c", CPU: cpu})
	}
	results = append(results, result{Scenario: "s", Client: "other", CPU: 100})
	if got := median(results[:3], "s", "c", cpuPerMessage); got != 5 {
		t.Errorf("median of three = %v, want 5", got)
	}
	if got := median(results, "s", "c", cpuPerMessage); got != 6 {
		t.Errorf("median of four = %v, want 6", got)
	}
	if got := median(nil, "s", "c", cpuPerMessage); got != 0 {
		t.Errorf("median of none = %v, want 0", got)
	}
}

func TestSelection(t *testing.T) {
	if _, err := newPlan(config{}, "raw,nobody", ""); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("unknown client: %v", err)
	}
	p, err := newPlan(config{}, "raw", "idle,publish-0")
	if err != nil || len(p.clients) != 1 || len(p.scenarios) != 2 || p.scenarios[0].name != "publish-0" {
		t.Errorf("plan %+v, %v", p, err)
	}
}
