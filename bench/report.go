package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// baseline is the client whose CPU per message the others are compared with.
const baseline = "raw+hop"

// quietLoad is the load average up to which runs repeat well: above it raw+hop
// itself has been seen to move by a factor of two.
const quietLoad = 0.7

// printTable prints the median of each client in each scenario. Each figure is
// the median of its own runs.
func printTable(w io.Writer, p *plan, results []result) error {
	fmt.Fprintf(w, "payload %d B, window %d, topic %s; median of %d runs of %v\n\n", p.base.Size, p.base.Window, p.base.Topic, p.runs, p.target)
	if p.load > quietLoad {
		fmt.Fprintf(w, "the machine was busy (load %.2f) when the runs began: compare min-max before ratios\n\n", p.load)
	}
	for _, s := range p.scenarios {
		fmt.Fprintf(w, "%s: %s\n", s.name, s.about)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
		switch {
		case s.name == idleName:
			idleRows(table, p, results)
		case s.durable:
			fmt.Fprintf(w, "a write of 4 KiB and its fsync take %v here\n", syncTime(p.base.Dir))
			durableRows(table, p, s, results)
		default:
			messageRows(table, p, s, results)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}

func messageRows(table io.Writer, p *plan, s scenario, results []result) {
	fmt.Fprintln(table, "client\tmessages/s\tCPU ns/msg\tmin-max\tallocs/msg\tx raw+hop CPU\tp50 us\t")
	base := median(results, s.name, baseline, cpuPerMessage)
	for _, name := range p.clients {
		if !measured(results, s.name, name) {
			fmt.Fprintf(table, "%s\t-\t-\t-\t-\t-\t-\t\n", name)
			continue
		}
		cpus := figures(results, s.name, name, cpuPerMessage)
		cpu, p50 := median(results, s.name, name, cpuPerMessage), median(results, s.name, name, p50Of)
		ratio, latency := "-", "-"
		if base > 0 {
			ratio = fmt.Sprintf("%.2f", cpu/base)
		}
		if p50 > 0 {
			latency = fmt.Sprintf("%.1f", p50)
		}
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f-%.0f\t%.2f\t%s\t%s\t\n", name,
			median(results, s.name, name, result.perSecond), cpu, slices.Min(cpus), slices.Max(cpus),
			median(results, s.name, name, allocsPerMessage), ratio, latency)
	}
}

// durableRows leave out what compares with raw, which keeps nothing.
func durableRows(table io.Writer, p *plan, s scenario, results []result) {
	fmt.Fprintln(table, "client\tmessages/s\tmin-max\tCPU ns/msg\tallocs/msg\tcommits/msg\t")
	for _, name := range p.clients {
		if !measured(results, s.name, name) {
			continue
		}
		rates := figures(results, s.name, name, result.perSecond)
		fmt.Fprintf(table, "%s\t%.0f\t%.0f-%.0f\t%.0f\t%.2f\t%.5f\t\n", name,
			median(results, s.name, name, result.perSecond), slices.Min(rates), slices.Max(rates),
			median(results, s.name, name, cpuPerMessage), median(results, s.name, name, allocsPerMessage),
			median(results, s.name, name, func(r result) float64 { return r.Commits }))
	}
}

// syncTime is the median time that a write of 4 KiB and its fsync take in dir, 0
// when it cannot be told.
func syncTime(dir string) time.Duration {
	f, err := os.CreateTemp(dir, "bench-sync-")
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	times := make([]time.Duration, 21)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(make([]byte, 4096)); err != nil || f.Sync() != nil {
			return 0
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2].Round(time.Microsecond)
}

func idleRows(table io.Writer, p *plan, results []result) {
	fmt.Fprintln(table, "client\tconnections\tRSS bytes each\tgoroutines each\t")
	for _, name := range p.clients {
		fmt.Fprintf(table, "%s\t%d\t%.0f\t%.1f\t\n", name, idleConnections,
			median(results, idleName, name, func(r result) float64 { return r.RSS }),
			median(results, idleName, name, func(r result) float64 { return r.Goroutines }))
	}
}

func cpuPerMessage(r result) float64    { return r.CPU }
func allocsPerMessage(r result) float64 { return r.Allocs }
func p50Of(r result) float64            { return r.P50 }

func measured(results []result, scenario, client string) bool {
	return len(figures(results, scenario, client, cpuPerMessage)) > 0
}

// figures returns one figure of every run of a client in a scenario, ascending.
func figures(results []result, scenario, client string, figure func(result) float64) []float64 {
	var all []float64
	for _, r := range results {
		if r.Scenario == scenario && r.Client == client && !r.Unsupported {
			all = append(all, figure(r))
		}
	}
	slices.Sort(all)
	return all
}

// median returns 0 without a run.
func median(results []result, scenario, client string, figure func(result) float64) float64 {
	all := figures(results, scenario, client, figure)
	if len(all) == 0 {
		return 0
	}
	mid := len(all) / 2
	if len(all)%2 == 0 {
		return (all[mid-1] + all[mid]) / 2
	}
	return all[mid]
}
