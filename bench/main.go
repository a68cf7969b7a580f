// Command bench measures MQTT clients side by side: CPU time, allocations and
// messages per second of each client's own process, against a server that is
// never the bottleneck, beside a raw client that does the least a client can do.
//
//	go run ./bench -quick            a few seconds for each scenario
//	go run ./bench -clients raw,raw+hop,millrace -scenarios publish-0 -runs 7
//	go run ./bench -json > run.json
//
// Server and client of each run are processes of their own. Runs are
// interleaved, so that a slow phase of the machine meets every client; the table
// shows medians. What counts is the ratio of CPU per message to raw+hop's in the
// same table.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// config is what the parent hands to its child processes, too.
type config struct {
	Scenario string
	Client   string
	Topic    string
	Size     int // payload bytes
	Window   int // QoS 1 and 2
	Count    int // messages, or connections when idle
	Addr     string
	Dir      string // of what is kept on disk
}

func main() {
	if len(os.Args) == 3 && strings.HasPrefix(os.Args[1], rolePrefix) {
		if err := runRole(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	quick := flag.Bool("quick", false, "3 runs of 0.2 s each instead of 5 runs of 1 s")
	runs := flag.Int("runs", 0, "runs of each client in each scenario; 0 means 5, or 3 with -quick")
	target := flag.Duration("time", 0, "length of one run; 0 means 1s, or 200ms with -quick")
	clients := flag.String("clients", "", "clients to run, by commas; empty means all of: "+strings.Join(adapterNames(), ","))
	only := flag.String("scenarios", "", "scenarios to run, by commas; empty means all of: "+strings.Join(scenarioNames(), ","))
	asJSON := flag.Bool("json", false, "print every run as JSON instead of a table of medians")
	base := config{}
	flag.StringVar(&base.Topic, "topic", "plant/7/line3/temp", "topic of every message")
	flag.IntVar(&base.Size, "size", 64, "payload bytes")
	flag.IntVar(&base.Window, "window", 1000, "unacknowledged messages at QoS 1 and 2")
	flag.StringVar(&base.Dir, "dir", ".", "directory for what durable clients keep; on a real disk, not tmpfs")
	flag.Parse()

	plan, err := newPlan(base, *clients, *only)
	if err != nil {
		return err
	}
	plan.runs, plan.target = 5, time.Second
	if *quick {
		plan.runs, plan.target = 3, 200*time.Millisecond
	}
	if *runs > 0 {
		plan.runs = *runs
	}
	if *target > 0 {
		plan.target = *target
	}
	results, err := plan.run(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(results)
	}
	return printTable(os.Stdout, plan, results)
}

// newPlan selects clients and scenarios by name, in the order of their lists.
func newPlan(base config, clients, only string) (*plan, error) {
	p := &plan{base: base}
	wanted, err := selection("client", clients, adapterNames())
	if err != nil {
		return nil, err
	}
	p.clients = wanted
	wanted, err = selection("scenario", only, scenarioNames())
	if err != nil {
		return nil, err
	}
	for _, s := range scenarios() {
		if slices.Contains(wanted, s.name) {
			p.scenarios = append(p.scenarios, s)
		}
	}
	return p, nil
}

func selection(kind, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("no %s %q; there are %s", kind, name, strings.Join(all, ", "))
		}
	}
	return names, nil
}
