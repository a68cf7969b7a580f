package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// tunnel is a net.Conn as a channel of an SSH connection is: it has no deadlines,
// and its Close wakes no call.
type tunnel struct {
	net.Conn
	tunnelShape
	freed chan struct{} // closed when calls may return

	mu    sync.Mutex
	stuck bool          // the peer reads nothing any more
	held  chan struct{} // closed when a Write that is not stuck may go on; nil: at once
	late  bytes.Buffer  // what Write was given when the tunnel was stuck, read when it was freed
	calls int           // and in how many calls
}

// tunnelShape is how bad a tunnel is.
type tunnelShape struct {
	lying bool // deadlines are taken, and do nothing
	hangs bool // Close does not return either
	slow  bool // a Write that was stuck goes through when it is freed
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
	stuck, held := c.stuck, c.held
	c.mu.Unlock()
	if stuck {
		return c.writeLate(p)
	}
	if held != nil {
		<-held
	}
	return c.Conn.Write(p)
}

// writeLate is a Write that reads what it was given when it is freed.
func (c *tunnel) writeLate(p []byte) (int, error) {
	<-c.freed
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late.Write(p)
	c.calls++
	if c.slow {
		return len(p), nil
	}
	return 0, net.ErrClosed
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

// hold holds up the next Write until the channel it returns is closed.
func (c *tunnel) hold() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = make(chan struct{})
	return c.held
}

// tunnels are those that a Conn was dialed through.
type tunnels struct {
	shape tunnelShape
	freed chan struct{}
	free  func() // lets all calls return

	mu  sync.Mutex
	all []*tunnel
}

func newTunnels(t *testing.T, shape tunnelShape) *tunnels {
	freed := make(chan struct{})
	ts := &tunnels{shape: shape, freed: freed, free: sync.OnceFunc(func() { close(freed) })}
	t.Cleanup(ts.free)
	return ts
}

// wrap makes a tunnel of nc, for [dialThrough].
func (ts *tunnels) wrap(_ int, nc net.Conn) net.Conn {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	c := &tunnel{Conn: nc, tunnelShape: ts.shape, freed: ts.freed}
	ts.all = append(ts.all, c)
	return c
}

// last returns the newest tunnel.
func (ts *tunnels) last() *tunnel {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.all[len(ts.all)-1]
}

// throughTunnel connects a Conn through tunnels, the first of which it returns.
func throughTunnel(t *testing.T, shape tunnelShape, opts ...mqtt.ConnectOption) (*dialed, *server.Wire, *tunnel) {
	t.Helper()
	ts := newTunnels(t, shape)
	d := dialThrough(t, ts.wrap, opts...)
	w := d.up(server.Connack)
	t.Cleanup(ts.free) // before the Conn is aborted
	return d, w, ts.last()
}

// A net.Conn whose calls never return does not hold up the end of a Conn. Each call
// that was left behind is counted.
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
					want := uint64(2) // the Write and the Read
					if shape.hangs {
						want++
					}
					if n := d.conn.Stats().LeftBehind; n != want {
						t.Errorf("%d calls were counted as left behind, want %d", n, want)
					}
				})
			})
		}
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

// The acknowledgements that follow a server's overrun of our Receive Maximum may meet
// such a call too.
func TestOverrunOnConnWhoseCallsNeverReturn(t *testing.T) {
	for _, shape := range []tunnelShape{{}, {lying: true}} {
		synctest.Test(t, func(t *testing.T) {
			d, w, c := throughTunnel(t, shape, mqtt.WithReceiveMaximum(1), mqtt.WithSubscription("t", mqtt.QoS(1), mqtt.WithManualAck()))
			w.ExpectPacket() // SUBSCRIBE
			written := c.hold()
			d.conn.Publish(t.Context(), mqtt.Message{Topic: "x"})
			synctest.Wait()
			w.SendBytes(rawAck(0x62, 9)) // PUBCOMP gets into the buffer
			w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "x"))
			w.SendBytes(rawPublish(mqtt.V5, 0x32, 2, "t", "y")) // beyond the maximum
			synctest.Wait()
			c.stick()
			close(written)
			synctest.Wait()
			within(t, 500*time.Millisecond, "Abort", d.conn.Abort)
		})
	}
}

// A packet hook that is slow is no call of the socket: the end of the Conn waits for it.
func TestSlowHookIsNotLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
			if p.Type == codec.PINGRESP {
				time.Sleep(time.Second)
			}
		}))
		w := d.up(server.Connack)
		w.Send(server.Pingresp)
		synctest.Wait()
		takes(t, time.Second, "the end", func() { d.conn.Abort(); <-d.conn.Done() })
		if n := d.conn.Stats().LeftBehind; n != 0 {
			t.Errorf("%d calls were counted as left behind", n)
		}
	})
}

// A net.Conn may be of any type, also of one whose values cannot be compared.
func TestConnOfATypeThatCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type labelled struct {
			net.Conn
			labels []string
		}
		d := dialThrough(t, func(_ int, nc net.Conn) net.Conn { return labelled{nc, []string{"a"}} })
		w := d.up(server.Connack)
		takes(t, 0, "Abort", d.conn.Abort)
		w.ExpectEOF()
	})
}

// The connection that makes a 3.x server forget a session is left behind too.
func TestFreshStartThroughConnWhoseCallsNeverReturn(t *testing.T) {
	for _, shape := range []tunnelShape{{}, {hangs: true}, {lying: true, hangs: true}} {
		synctest.Test(t, func(t *testing.T) {
			freed := make(chan struct{})
			defer close(freed)
			network := &server.Network{}
			first := make(chan *tunnel, 100)
			d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithSession(time.Hour), mqtt.WithFreshStart(),
				mqtt.WithConnectTimeout(3*time.Second), mqtt.WithDialer(func(ctx context.Context, netw, addr string) (net.Conn, error) {
					nc, err := network.Dial(ctx, netw, addr)
					c := &tunnel{Conn: nc, tunnelShape: shape, freed: freed}
					first <- c
					return c, err
				}))
			d.Peer = server.NewPeer(t, network)
			w := d.Accept(t.Context())
			w.ExpectPacket()
			(<-first).stick() // from now on its calls do not return
			w.Send(server.Connack3)
			d.Accept(t.Context()) // the next attempt
			within(t, time.Second, "Close", func() { d.conn.Close() })
		})
	}
}
