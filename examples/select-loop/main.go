// Command select-loop is a service with one goroutine: commands, alarms, a timer
// and the connection's events meet in one select.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
)

func main() {
	n := flag.Int("n", 4, "messages to take before it ends")
	program.Main("an MQTT server", func(ctx context.Context, url string, out io.Writer) error {
		return run(ctx, url, *n, out)
	})
}

func run(ctx context.Context, url string, n int, w io.Writer) error {
	url, stop, err := broker.Or(url)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := mqtt.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close()

	commands, err := mqtt.SubscribeAs(ctx, conn, "pump/7/set", mqtt.UTF8())
	if err != nil {
		return err
	}
	alarms, err := conn.Subscribe(ctx, "alarm/#", mqtt.QoS(2))
	if err != nil {
		return err
	}
	// The traffic: what other programs would send.
	traffic := time.NewTicker(10 * time.Millisecond)
	defer traffic.Stop()
	sent := 0

	for taken := 0; taken < n; {
		select {
		case c, ok := <-commands.C():
			if !ok {
				return commands.Err()
			}
			taken++
			fmt.Fprintf(w, "command: %s\n", c.Value)
		case a, ok := <-alarms.C():
			if !ok {
				return alarms.Err()
			}
			taken++
			fmt.Fprintf(w, "alarm on %s: %s\n", a.Topic, a.Payload)
		case ev := <-conn.Events():
			fmt.Fprintf(w, "event: %T\n", ev)
		case <-traffic.C:
			m := mqtt.Message{Topic: "pump/7/set", Payload: []byte("on"), QoS: 1}
			if sent++; sent%2 == 0 {
				m = mqtt.Message{Topic: "alarm/pump/7", Payload: mqtt.FloatPayload(93.5), QoS: 1}
			}
			// TryPublish never waits, so that it may stand in a select loop.
			conn.TryPublish(m)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
