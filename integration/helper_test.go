package integration

import (
	"context"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/integration/broker"
)

// patience is how long a test waits for what must happen. It is far above what a
// loaded machine has shown, and decides nothing but when a broken test ends.
const patience = 30 * time.Second

// connect makes a Conn to b over a transport in one version and no other. The
// test's end closes it.
func connect(t *testing.T, b *broker.Broker, v broker.Version, over broker.Transport, opts ...mqtt.ConnectOption) *mqtt.Conn {
	t.Helper()
	conn, err := dial(b, v, over, opts...)
	if err != nil {
		t.Fatalf("connect to %s in %s over %s: %v", b.Name(), v, over, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// dial is connect for tests that expect an error or end the Conn by themselves.
func dial(b *broker.Broker, v broker.Version, over broker.Transport, opts ...mqtt.ConnectOption) (*mqtt.Conn, error) {
	return dialIn(context.Background(), b, v, over, opts...)
}

// dialIn is dial with the context that scopes the Conn.
func dialIn(ctx context.Context, b *broker.Broker, v broker.Version, over broker.Transport, opts ...mqtt.ConnectOption) (*mqtt.Conn, error) {
	opts = append([]mqtt.ConnectOption{
		mqtt.WithVersions(mqtt.Version(v)),
		mqtt.WithTLS(b.TLSConfig(over)),
		mqtt.WithConnectTimeout(patience),
		mqtt.WithBackoff(backoff.Exponential{Base: 20 * time.Millisecond, Max: 200 * time.Millisecond}),
	}, opts...)
	return mqtt.Connect(ctx, b.URL(over), opts...)
}

// subscribe returns the channel of a new subscription.
func subscribe(t *testing.T, conn *mqtt.Conn, filter string, opts ...mqtt.SubscribeOption) <-chan mqtt.Message {
	t.Helper()
	sub, err := conn.Subscribe(context.Background(), filter, opts...)
	if err != nil {
		t.Fatalf("subscribe to %q: %v", filter, err)
	}
	return sub.C()
}

// publish publishes m and waits for its Future.
func publish(t *testing.T, conn *mqtt.Conn, m mqtt.Message) {
	t.Helper()
	if err := settled(t, conn.Publish(t.Context(), m)); err != nil {
		t.Fatalf("publish to %q: %v", m.Topic, err)
	}
}

// settled waits for a Future and returns how it ended.
func settled(t *testing.T, f *mqtt.Future) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := f.Wait(ctx)
	if f.Err() == mqtt.ErrPending {
		t.Fatalf("a Future is still pending after %v", patience)
	}
	return err
}

// receive takes the next message of a subscription.
func receive(t *testing.T, ch <-chan mqtt.Message) mqtt.Message {
	t.Helper()
	m, ok := within(t, "a message", ch)
	if !ok {
		t.Fatal("the subscription ended instead of a message")
	}
	return m
}

// within takes a value from ch, or fails the test when none comes.
func within[T any](t *testing.T, what string, ch <-chan T) (T, bool) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v, ok := <-ch:
		return v, ok
	case <-timer.C:
		t.Fatalf("%s did not come within %v", what, patience)
		panic("not reached")
	}
}
