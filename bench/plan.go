package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// plan is which clients run which scenarios, how often and how long.
type plan struct {
	base      config
	clients   []string
	scenarios []scenario
	runs      int
	target    time.Duration
	load      float64 // average of the last minute before the first run; 0 if unknown
}

const (
	// countMax bounds a run of a client that needs next to nothing per message.
	countMax = 20_000_000
	// idleConnections of each process fit the usual limit of open files.
	idleConnections = 500
)

// run runs every client in every scenario; the runs of one scenario are
// interleaved over its clients.
func (p *plan) run(ctx context.Context) ([]result, error) {
	p.load = loadAverage()
	var results []result
	for _, s := range p.scenarios {
		counts := make(map[string]int)
		for i := range p.runs {
			for _, name := range p.clients {
				fmt.Fprintf(os.Stderr, "\r%-12s run %d/%d %-20s", s.name, i+1, p.runs, name)
				cfg := p.base
				cfg.Scenario, cfg.Client = s.name, name
				if counts[name] == 0 {
					n, err := p.count(ctx, s, cfg)
					if err != nil {
						return nil, err
					}
					counts[name] = n
				}
				cfg.Count = counts[name]
				r, err := runOnce(ctx, cfg)
				if err != nil {
					return nil, err
				}
				results = append(results, r)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "\r%60s\r", "")
	return results, nil
}

// count finds how many messages fill the target time, by a run that is thrown
// away.
func (p *plan) count(ctx context.Context, s scenario, cfg config) (int, error) {
	if s.name == idleName {
		return idleConnections, nil
	}
	cfg.Count = s.probe
	r, err := runOnce(ctx, cfg)
	if err != nil || r.Unsupported {
		return s.probe, err
	}
	n := int(r.perSecond() * p.target.Seconds())
	return min(max(n, s.probe/2), countMax), nil
}

func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64) // 0, unknown, on any other format
	return load
}
