// Command chaos publishes and receives through a broker with sessions on disk
// while links are cut and slow, processes killed or told to leave, and Mosquitto
// restarted (mochi would lose its sessions), and prints what became of every message.
// It ends with 1 when one was lost or doubled or came out of order, a Future failed, or
// a graceful end was followed by a will, without the last message, or by what was
// settled before. See package chaos for how it judges.
//
//	go run ./integration/cmd/chaos -minutes 10
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/integration/chaos"
)

func main() {
	broker.ServeMochi()
	chaos.Serve()
	ok, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// run carries out what the flags ask for.
func run() (ok bool, err error) {
	minutes := flag.Float64("minutes", 0, "how long, in minutes")
	seconds := flag.Float64("seconds", 0, "and in seconds")
	seed := flag.Uint64("seed", rand.Uint64(), "of the faults")
	server := flag.String("broker", "mosquitto", "mosquitto or mochi")
	version := flag.String("version", "both", "3.1.1, 5.0, or both in turn, which share the time")
	over := flag.String("over", "tcp", "tcp, tls, ws or wss")
	refused := flag.Bool("refused", true, "subscribe, now and then, to a filter at which Mosquitto cuts the link")
	dir := flag.String("dir", "", "where stores and records are kept, on a disk; default: the current directory's own")
	flag.Parse()
	versions := map[string][]mqtt.Version{"3.1.1": {mqtt.V311}, "5.0": {mqtt.V5}, "both": {mqtt.V311, mqtt.V5}}[*version]
	total := time.Duration(*minutes*float64(time.Minute) + *seconds*float64(time.Second))
	if versions == nil || total <= 0 || flag.NArg() > 0 {
		flag.Usage()
		return false, errors.New("want -minutes or -seconds, and a version")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Printf("-seed %d draws these faults again, though not at the same moments\n", *seed)
	var sum chaos.Report
	for i, v := range versions {
		config := chaos.Config{
			Broker: chaos.Broker(*server), Version: v, Over: broker.Transport(*over), Duration: total / time.Duration(len(versions)),
			Seed: *seed + uint64(i), Refused: *refused, Dir: *dir, Progress: os.Stdout,
		}
		report, err := one(ctx, config)
		if err != nil {
			return false, err
		}
		sum.Add(report)
	}
	fmt.Print("\n", &sum)
	return sum.OK(), nil
}

// one runs with one version, in a directory that is removed if all went well.
func one(ctx context.Context, c chaos.Config) (report chaos.Report, err error) {
	t := new(terminal)
	defer t.cleanup()
	parent := c.Dir
	if parent == "" {
		parent = "."
	}
	dir, err := os.MkdirTemp(parent, "chaos-")
	if err != nil {
		return report, err
	}
	if c.Dir, err = filepath.Abs(dir); err != nil {
		return report, err
	}
	fmt.Printf("\nMQTT %v through %s over %s for %v\n", c.Version, c.Broker, c.Over, c.Duration)
	report, err = chaos.Run(ctx, t, c)
	fmt.Print(&report)
	if err != nil || !report.OK() {
		fmt.Println("stores, notes and the wire are in", c.Dir)
		return report, err
	}
	return report, os.RemoveAll(c.Dir)
}
