package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/mqtt/bench/raw"
)

// scenario is one thing clients are compared in.
type scenario struct {
	name  string
	about string
	// source makes the server send this QoS to a subscriber; -1 sends nothing.
	source int
	// durable runs clients that keep what they publish, or receive, on disk.
	durable bool
	// probe is the count of the first run, which finds the count of the others.
	probe int
	// body runs the measured part; lap may be called with the latency of each
	// message.
	body func(ctx context.Context, c client, cfg config, lap func(time.Duration)) error
}

// blockers is the number of goroutines that each wait for their acks.
const blockers = 64

func scenarios() []scenario {
	return []scenario{
		{"publish-0", "publish QoS 0, one goroutine", -1, false, 20_000, publish(0)},
		{"publish-1", "publish QoS 1, window", -1, false, 20_000, publish(1)},
		{"publish-2", "publish QoS 2, window", -1, false, 20_000, publish(2)},
		{"receive-0", "receive QoS 0 into a channel", 0, false, 20_000, receive(0)},
		{"receive-1", "receive QoS 1, window, into a channel", 1, false, 20_000, receive(1)},
		{"block-64", "64 goroutines, each waits for its QoS 1 ack", -1, false, 10_000, block},
		{"single", "one QoS 1 at a time", -1, false, 2_000, single},
		{"durable-1", "publish QoS 1 by way of the disk, window", -1, true, 2_000, publish(1)},
		{"durable-64", "the same, window 64", -1, true, 2_000, windowed(64, publish(1))},
		{"durable-one", "the same, one at a time", -1, true, 200, windowed(1, publish(1))},
		{"durable-receive", "receive QoS 1 into the durable inbox, window, into a channel", 1, true, 2_000, receiveDurable},
		{idleName, "idle connections in one process", -1, false, 0, nil},
	}
}

// idleName is the scenario that counts memory, not messages.
const idleName = "idle"

func scenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

func scenarioNamed(name string) (scenario, error) {
	i := slices.IndexFunc(scenarios(), func(s scenario) bool { return s.name == name })
	if i < 0 {
		return scenario{}, fmt.Errorf("no scenario %q", name)
	}
	return scenarios()[i], nil
}

// feed is what the server of a scenario sends.
func (s scenario) feed(cfg config) raw.Source {
	if s.source < 0 {
		return raw.Source{}
	}
	m := raw.Message{Topic: cfg.Topic, Payload: cfg.Size, QoS: byte(s.source)}
	return raw.Source{Message: m, Count: cfg.Count, Window: cfg.Window}
}

func (cfg config) message(qos byte) message {
	return message{topic: cfg.Topic, payload: make([]byte, cfg.Size), qos: qos}
}

func publish(qos byte) func(context.Context, client, config, func(time.Duration)) error {
	return func(ctx context.Context, c client, cfg config, _ func(time.Duration)) error {
		m := cfg.message(qos)
		if err := c.publish(ctx, m, cfg.Count, cfg.Window); err != nil {
			return err
		}
		if qos > 0 {
			return nil
		}
		// Its ack proves that the server has read everything before it.
		return c.publishWait(ctx, m)
	}
}

// windowed is body with a window of its own.
func windowed(n int, body func(context.Context, client, config, func(time.Duration)) error) func(context.Context, client, config, func(time.Duration)) error {
	return func(ctx context.Context, c client, cfg config, lap func(time.Duration)) error {
		cfg.Window = n
		return body(ctx, c, cfg, lap)
	}
}

func receive(qos byte) func(context.Context, client, config, func(time.Duration)) error {
	return func(ctx context.Context, c client, cfg config, _ func(time.Duration)) error {
		return c.receive(ctx, cfg.Topic, qos, cfg.Count)
	}
}

// receiveDurable is for clients that store what arrives before they acknowledge it.
func receiveDurable(ctx context.Context, c client, cfg config, _ func(time.Duration)) error {
	if _, ok := c.(committer); !ok {
		return errUnsupported
	}
	return c.receive(ctx, cfg.Topic, 1, cfg.Count)
}

func block(ctx context.Context, c client, cfg config, _ func(time.Duration)) error {
	if _, ok := c.(rawClient); ok {
		return errUnsupported
	}
	m := cfg.message(1)
	workers, ctx := errgroup.WithContext(ctx)
	for w := range blockers {
		workers.Go(func() error { // ends with its share or the first error; Wait waits
			for range share(cfg.Count, blockers, w) {
				if err := c.publishWait(ctx, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

func single(ctx context.Context, c client, cfg config, lap func(time.Duration)) error {
	m := cfg.message(1)
	for range cfg.Count {
		start := time.Now()
		if err := c.publishWait(ctx, m); err != nil {
			return err
		}
		lap(time.Since(start))
	}
	return nil
}
