// Command sessions shows what a kept session is for: the link of a subscriber is
// cut, others publish meanwhile, and nothing is missed when it is back. The
// channel of the subscription stays the same all along.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
)

func main() { program.Main("an MQTT server", run) }

func run(ctx context.Context, url string, w io.Writer) error {
	url, stop, err := broker.Or(url)
	if err != nil {
		return err
	}
	defer stop()

	var cable cable
	store, err := mqtt.Connect(ctx, url,
		mqtt.WithClientID("millrace-example-store"), // a session is found by its client identifier
		mqtt.WithSession(time.Hour),
		// Declared here, so that no message of the session comes before it.
		mqtt.WithSubscription("orders/+", mqtt.QoS(2)),
		mqtt.WithDialer(cable.dial),
		mqtt.WithBackoff(backoff.Exponential{Base: 200 * time.Millisecond, NoJitter: true}),
	)
	if err != nil {
		return err
	}
	defer store.Close()
	orders := store.Subscription("orders/+")
	select {
	case <-orders.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	shop, err := mqtt.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer shop.Close()

	if err := order(ctx, shop, 1); err != nil {
		return err
	}
	if err := take(ctx, orders, 1, w); err != nil {
		return err
	}

	cable.cut()
	if err := until[mqtt.Disconnected](ctx, store, w); err != nil {
		return err
	}
	for n := 2; n <= 4; n++ {
		if err := order(ctx, shop, n); err != nil {
			return err
		}
	}
	fmt.Fprintln(w, "ordered while the store was away: 2, 3, 4")
	if err := until[mqtt.Connected](ctx, store, w); err != nil {
		return err
	}
	return take(ctx, orders, 3, w)
}

// order publishes one order and waits until the server has it.
func order(ctx context.Context, shop *mqtt.Conn, n int) error {
	m := mqtt.Message{Topic: fmt.Sprintf("orders/%d", n), QoS: 2}
	return shop.Publish(ctx, m).Wait(ctx)
}

// take takes n orders from the channel. The embedded server sends those that it
// kept in no particular order, so they are sorted here.
func take(ctx context.Context, orders *mqtt.Subscription, n int, w io.Writer) error {
	var topics []string
	for range n {
		select {
		case m, ok := <-orders.C():
			if !ok {
				return orders.Err()
			}
			topics = append(topics, m.Topic)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	slices.Sort(topics)
	fmt.Fprintln(w, "took", topics)
	return nil
}

// until reads events up to the next E.
func until[E mqtt.Event](ctx context.Context, c *mqtt.Conn, w io.Writer) error {
	for {
		select {
		case ev, ok := <-c.Events():
			if !ok {
				return c.Err()
			}
			if up, ok := ev.(mqtt.Connected); ok {
				fmt.Fprintf(w, "link %d, session present: %t\n", up.Link, up.SessionPresent)
			}
			if _, found := ev.(E); found {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cable is the network between client and server.
type cable struct {
	last atomic.Pointer[net.Conn]
}

func (c *cable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err == nil {
		c.last.Store(&nc)
	}
	return nc, err
}

// cut closes the socket without a DISCONNECT, as a broken network does.
func (c *cable) cut() { (*c.last.Load()).Close() }
