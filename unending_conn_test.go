package mqtt_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// tunnel is a net.Conn as a channel of an SSH connection is: it has no deadlines,
// and its Close wakes no call.
type tunnel struct {
	net.Conn
	tunnelShape

	mu    sync.Mutex
	stuck bool          // the peer reads nothing any more
	freed chan struct{} // closed when calls may return
}

// tunnelShape is how bad a tunnel is.
type tunnelShape struct {
	lying bool // deadlines are taken, and do nothing
	hangs bool // Close does not return either
}

var errNoDeadline = errors.New("tunnel: deadline not supported")

func (c *tunnel) setDeadline() error {
	if c.lying {
		return nil
	}
	return errNoDeadline
}

func (c *tunnel) SetDeadline(time.Time) error      { return c.setDeadline() }
func (c *tunnel) SetReadDeadline(time.Time) error  { return c.setDeadline() }
func (c *tunnel) SetWriteDeadline(time.Time) error { return c.setDeadline() }

func (c *tunnel) Write(p []byte) (int, error) {
	c.mu.Lock()
	stuck := c.stuck
	c.mu.Unlock()
	if stuck {
		<-c.freed
		for range p { // it reads what it was given, however late
		}
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *tunnel) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.mu.Lock()
		stuck := c.stuck
		c.mu.Unlock()
		if stuck {
			<-c.freed
		}
	}
	return n, err
}

func (c *tunnel) Close() error {
	if c.hangs {
		<-c.freed
	}
	return c.Conn.Close()
}

func (c *tunnel) stick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stuck = true
}

// throughTunnel connects a Conn through tunnels, the first of which it returns.
func throughTunnel(t *testing.T, shape tunnelShape, opts ...mqtt.ConnectOption) (*dialed, *server.Wire, *tunnel) {
	t.Helper()
	var mu sync.Mutex
	var all []*tunnel
	network := &server.Network{}
	freed := make(chan struct{})
	opts = append(opts, mqtt.WithDialer(func(ctx context.Context, netw, addr string) (net.Conn, error) {
		nc, err := network.Dial(ctx, netw, addr)
		c := &tunnel{Conn: nc, tunnelShape: shape, freed: freed}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, c)
		return c, err
	}))
	peer := server.NewPeer(t, network)
	d := dial(t, opts...)
	d.Peer = peer
	t.Cleanup(func() { close(freed) })
	w := d.up(server.Connack)
	mu.Lock()
	defer mu.Unlock()
	return d, w, all[0]
}

// A net.Conn whose calls never return does not hold up the end of a Conn, and is
// counted.
func TestConnWhoseCallsNeverReturnIsLeftBehind(t *testing.T) {
	ends := map[string]struct {
		within time.Duration
		end    func(c *mqtt.Conn)
	}{
		"Close": {6 * time.Second, func(c *mqtt.Conn) { c.Close() }},
		"Abort": {time.Second, func(c *mqtt.Conn) { c.Abort() }},
	}
	for name, e := range ends {
		for _, shape := range []tunnelShape{{}, {hangs: true}, {lying: true}, {lying: true, hangs: true}} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d, _, c := throughTunnel(t, shape)
					c.stick()
					fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x")})
					synctest.Wait()
					within(t, e.within, name, func() { e.end(d.conn) })
					p, ok := errors.AsType[*mqtt.PublishError](fut.Err())
					if !ok || !p.MayHaveArrived {
						t.Errorf("publish: %v", fut.Err())
					}
					if n := d.conn.Stats().LeftBehind; n == 0 {
						t.Error("nothing was counted as left behind")
					}
				})
			})
		}
	}
}

// A link that died of such a call is followed by the next.
func TestConnWhoseCallsNeverReturnIsReplaced(t *testing.T) {
	for _, lying := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d, w, c := throughTunnel(t, tunnelShape{lying: lying}, mqtt.WithSession(time.Hour))
			c.stick()
			payload := make([]byte, 64<<10) // stands beside the buffer by reference
			fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: payload, QoS: 1}.GiveAway())
			synctest.Wait()
			w.Send("C0 00") // no packet of a server: the link ends
			w = d.up(server.ConnackPresent)
			w.ExpectPacket()
			w.SendBytes(rawAck(0x40, fut.PacketID()))
			synctest.Wait()
			succeeded(t, fut)
			clear(payload) // it is ours again: the write that was left behind has a copy
		})
	}
}

// An attempt that hangs in such a call ends with its time too.
func TestAttemptThroughConnWhoseCallsNeverReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freed := make(chan struct{})
		defer close(freed)
		var dials atomic.Int32
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithConnectTimeout(time.Second),
			mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithBackoff(steady(time.Second)),
			mqtt.WithDialer(func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				nc, _ := server.Pipe(0)
				return &tunnel{Conn: nc, stuck: true, tunnelShape: tunnelShape{hangs: true}, freed: freed}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if n := dials.Load(); n < 3 {
			t.Errorf("%d attempts in 10 s", n)
		}
		within(t, time.Second, "Close", func() { conn.Close() })
	})
}
