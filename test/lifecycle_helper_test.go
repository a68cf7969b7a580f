package mqtt_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
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

// dialSubscribed dials with a session that is there, to a server that was sent the
// SUBSCRIBE for "t"; ch has its messages.
func dialSubscribed(t *testing.T, v mqtt.Version, opts ...mqtt.SubscribeOption) (d *dialed, w *server.Wire, ch <-chan mqtt.Message) {
	t.Helper()
	d = dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour), mqtt.WithSubscription("t", opts...))
	w = d.up(connack(v, true))
	w.ExpectPacket() // SUBSCRIBE
	return d, w, d.conn.Subscription("t").C()
}

// dialThrough is dial with connections that wrap has made of those to the peer; n
// is their number, from 1.
func dialThrough(t *testing.T, wrap func(n int, nc net.Conn) net.Conn, opts ...mqtt.ConnectOption) *dialed {
	t.Helper()
	network := &server.Network{}
	peer := server.NewPeer(t, network)
	d := dial(t, append(opts, mqtt.WithDialer(wrapped(network, wrap)))...)
	d.Peer, d.net = peer, network
	return d
}

// wrapped returns a dialer of network whose connections are what wrap has made of
// them.
func wrapped(network *server.Network, wrap func(n int, nc net.Conn) net.Conn) func(context.Context, string, string) (net.Conn, error) {
	var n atomic.Int64
	return func(ctx context.Context, proto, addr string) (net.Conn, error) {
		nc, err := network.Dial(ctx, proto, addr)
		if err != nil {
			return nil, err
		}
		return wrap(int(n.Add(1)), nc), nil
	}
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

// takes runs f and fails the test unless it takes want, no more and no less.
func takes(t *testing.T, want time.Duration, what string, f func()) {
	t.Helper()
	began := time.Now()
	f()
	wantAfter(t, what, began, want)
}

// wantAfter fails the test unless it is want after began.
func wantAfter(t *testing.T, what string, began time.Time, want time.Duration) {
	t.Helper()
	if took := time.Since(began); took != want {
		t.Errorf("%s after %v, want %v", what, took, want)
	}
}

// ended returns a context that has ended.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// lasting returns a context that ends after limit.
func lasting(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
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

// grantedSub subscribes, and has the server grant it.
func grantedSub(t *testing.T, d *dialed, w *server.Wire, v mqtt.Version, filter string, qos mqtt.QoS, opts ...mqtt.SubscribeOption) *mqtt.Subscription {
	t.Helper()
	got := make(chan *mqtt.Subscription, 1)
	go func() {
		sub, err := d.conn.Subscribe(t.Context(), filter, append(opts, qos)...)
		if err != nil {
			t.Error(err)
		}
		got <- sub
	}()
	id := w.ExpectPacket()[2:4]
	suback := []byte{0x90, 3, id[0], id[1], byte(qos)}
	if v == mqtt.V5 {
		suback = []byte{0x90, 4, id[0], id[1], 0, byte(qos)}
	}
	w.SendBytes(suback)
	return <-got
}

// dialGranted dials a server of 5.0 that grants a subscription.
func dialGranted(t *testing.T, filter string, qos mqtt.QoS, opts ...mqtt.SubscribeOption) (*dialed, *server.Wire, *mqtt.Subscription) {
	t.Helper()
	d := dial(t)
	w := d.up(server.Connack)
	return d, w, grantedSub(t, d, w, mqtt.V5, filter, qos, opts...)
}
