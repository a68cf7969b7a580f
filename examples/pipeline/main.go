// Command pipeline runs stages of goroutines between a subscription and a
// publish: decode, average, report. The first stage that fails ends all.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
	"golang.org/x/sync/errgroup"
)

// Reading is a measurement.
type Reading struct {
	Sensor  string  `json:"sensor"`
	Celsius float64 `json:"celsius"`
}

// Mean is what the pipeline makes of several.
type Mean struct {
	Sensor  string  `json:"sensor"`
	Celsius float64 `json:"celsius"`
	Of      int     `json:"of"`
}

func main() {
	n := flag.Int("n", 20, "readings to publish")
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

	g, ctx := errgroup.WithContext(ctx)
	sub, err := mqtt.SubscribeAs(ctx, conn, "plant/+/temp", mqtt.JSON[Reading]())
	if err != nil {
		return err
	}
	readings, means := make(chan Reading), make(chan Mean)
	g.Go(func() error { return valid(ctx, sub, n, readings) })
	g.Go(func() error { return average(ctx, readings, means) })
	g.Go(func() error { return report(ctx, conn, means, w) })
	g.Go(func() error { return produce(ctx, conn, n) })
	return g.Wait()
}

// valid takes n messages and passes on those that could be decoded.
func valid(ctx context.Context, sub *mqtt.TypedSubscription[Reading], n int, out chan<- Reading) error {
	defer close(out)
	for range n {
		select {
		case r, ok := <-sub.C():
			if !ok {
				return sub.Err()
			}
			if r.Err != nil {
				continue // r.Msg has the bytes, for a dead-letter topic
			}
			if err := send(ctx, out, r.Value); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// average makes one mean of five readings of a sensor.
func average(ctx context.Context, in <-chan Reading, out chan<- Mean) error {
	defer close(out)
	sums := map[string]Mean{}
	for r := range in {
		m := sums[r.Sensor]
		m.Sensor, m.Celsius, m.Of = r.Sensor, m.Celsius+r.Celsius, m.Of+1
		if m.Of == 5 {
			m.Celsius /= 5
			if err := send(ctx, out, m); err != nil {
				return err
			}
			m = Mean{}
		}
		sums[r.Sensor] = m
	}
	return nil
}

// report publishes the means and waits until the server has each.
func report(ctx context.Context, conn *mqtt.Conn, in <-chan Mean, w io.Writer) error {
	for m := range in {
		msg := mqtt.Message{Topic: "mean/" + m.Sensor, QoS: 1, Retain: true}
		if err := mqtt.PublishAs(ctx, conn, msg, mqtt.JSON[Mean](), m).Wait(ctx); err != nil {
			return err
		}
		fmt.Fprintf(w, "mean of %s: %.1f\n", m.Sensor, m.Celsius)
	}
	return nil
}

// produce is the traffic: readings of two sensors, and one that is broken.
func produce(ctx context.Context, conn *mqtt.Conn, n int) error {
	for i := range n {
		sensor := []string{"a", "b"}[i%2]
		m := mqtt.Message{Topic: "plant/" + sensor + "/temp", QoS: 1}
		if i == 0 {
			m.Payload = []byte("out of order")
			conn.Publish(ctx, m)
			continue
		}
		mqtt.PublishAs(ctx, conn, m, mqtt.JSON[Reading](), Reading{sensor, float64(20 + i)})
	}
	return conn.Flush(ctx)
}

func send[T any](ctx context.Context, out chan<- T, v T) error {
	select {
	case out <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
