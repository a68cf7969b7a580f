package mqtt_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// dialed is a Conn that connects in the background to a peer that the test plays.
type dialed struct {
	*server.Peer
	t    *testing.T
	net  *server.Network
	conn *mqtt.Conn
}

// dial makes a Conn with the client identifier "c", no pings and a backoff of
// 1 s, unless opts say otherwise. It belongs in a bubble.
func dial(t *testing.T, opts ...mqtt.ConnectOption) *dialed {
	t.Helper()
	return dialURL(t, t.Context(), "mqtt://server", opts...)
}

// dialURL is dial with a context and a URL.
func dialURL(t *testing.T, ctx context.Context, url string, opts ...mqtt.ConnectOption) *dialed {
	t.Helper()
	network := &server.Network{}
	d := &dialed{Peer: server.NewPeer(t, network), t: t, net: network}
	opts = append([]mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithDialer(network.Dial), mqtt.WithKeepAlive(-1),
		mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithBackoff(steady(time.Second)),
	}, opts...)
	conn, err := mqtt.Connect(ctx, url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Abort)
	d.conn = conn
	return d
}

// accept takes the next connection, answers CONNECT by ack and returns both.
func (d *dialed) accept(ack string) (*server.Wire, []byte) {
	d.t.Helper()
	w := d.Accept(d.t.Context())
	return w, w.Handshake(ack)
}

// up takes the next connection and lets it come up.
func (d *dialed) up(ack string) *server.Wire {
	d.t.Helper()
	w, _ := d.accept(ack)
	synctest.Wait()
	return w
}

// await reads events until one of type E comes.
func await[E mqtt.Event](t *testing.T, events <-chan mqtt.Event) E {
	t.Helper()
	timeout := time.After(time.Hour)
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				t.Fatalf("the events ended before a %T", *new(E))
			}
			if e, ok := ev.(E); ok {
				return e
			}
		case <-timeout:
			t.Fatalf("no %T within an hour", *new(E))
		}
	}
}

// drainEvents returns the events that wait in the channel.
func drainEvents(events <-chan mqtt.Event) (all []mqtt.Event) {
	for {
		select {
		case ev, ok := <-events:
			if !ok {
				return all
			}
			all = append(all, ev)
		default:
			return all
		}
	}
}

// within runs f and fails the test if it takes longer than limit.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v, more than %v", what, took, limit)
	}
}

// wantErr fails the test unless err is want.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// containsText reports whether the text of err has s in it.
func containsText(err error, s string) bool {
	return err != nil && strings.Contains(err.Error(), s)
}
