package mqtt_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/mqtttest/server"
)

var proxyURL = &url.URL{Scheme: "http", Host: "proxy:3128"}

// stalls are the places where an attempt can come to a halt: what the peer does
// with the connection, and the step that the error names.
var stalls = []struct {
	name, url, step string
	opts            []mqtt.ConnectOption
	play            func(w *server.Wire) // nil: the dial is not answered
}{
	{"dial", "mqtt://server", "dial", nil, nil},
	{"tls without an answer", "mqtts://server", "tls", nil, func(*server.Wire) {}},
	{"half a tls record", "mqtts://server", "tls", nil, func(w *server.Wire) { w.Send("16 03 03 00 40 02 00") }},
	{"proxy", "mqtt://server", "proxy", []mqtt.ConnectOption{mqtt.WithProxy(proxyURL)}, func(*server.Wire) {}},
	{"no websocket 101", "ws://server/mqtt", "websocket", nil, func(*server.Wire) {}},
	{"half a websocket answer", "ws://server/mqtt", "websocket", nil, func(w *server.Wire) { w.SendBytes([]byte("HTTP/1.1 101 Swi")) }},
	{"no CONNACK", "mqtt://server", "CONNACK", nil, func(*server.Wire) {}},
	{"half a CONNACK", "mqtt://server", "CONNACK", nil, func(w *server.Wire) { w.Send("20 03 00") }},
}

// An attempt that stalls at any step ends at its deadline with an error
// that names the step, and reconnecting goes on.
func TestAttemptEndsAtItsDeadlineWhereverItStalls(t *testing.T) {
	for _, tt := range stalls {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Told before Connect, which dials at once.
				unanswered, opts := &server.Network{}, tt.opts
				unanswered.RefuseDials(-1, server.ErrUnanswered)
				if tt.play == nil {
					opts = append(slices.Clone(opts), mqtt.WithDialer(unanswered.Dial))
				}
				d := dialURL(t, t.Context(), tt.url, opts...)
				if tt.play != nil {
					go func() {
						w := d.Accept(t.Context())
						tt.play(w)
					}()
				}
				began := time.Now()
				ev := await[mqtt.Retrying](t, d.conn.Events())
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("the attempt took %v, want the 10 s of the connect timeout", took)
				}
				e, ok := errors.AsType[*mqtt.ConnectError](ev.Err)
				if !ok || e.Step != tt.step {
					t.Errorf("got %v, want a ConnectError at %q", ev.Err, tt.step)
				}
				wantErr(t, "the attempt", ev.Err, context.DeadlineExceeded)
				if ne, ok := errors.AsType[net.Error](ev.Err); !ok || !ne.Timeout() {
					t.Errorf("%v is no timeout in the sense of net.Error", ev.Err)
				}
				if !strings.Contains(ev.Err.Error(), tt.step) {
					t.Errorf("the text %q does not name the step", ev.Err)
				}
				await[mqtt.Connecting](t, d.conn.Events())
				synctest.Wait()
				if n := d.net.Dials() + unanswered.Dials(); n < 2 {
					t.Errorf("%d dials, want a second one", n)
				}
			})
		})
	}
}

// No SUBACK on a resubscribe ends the link after the subscribe timeout,
// with Disconnected naming the step.
func TestNoSubackEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSubscription("t"), mqtt.WithSubscribeTimeout(4*time.Second))
		w := d.up(server.Connack)
		w.Expect("82 09 0001 02 0B01 0001 74 01")
		w.Send("90 04 0001 00 01")
		synctest.Wait()
		w.Cut()
		w = d.up(server.Connack)
		began := time.Now()
		w.Expect("82 09 0002 02 0B02 0001 74 11")
		drainEvents(d.conn.Events())
		ev := await[mqtt.Disconnected](t, d.conn.Events())
		if took := time.Since(began); took < 4*time.Second || took > 7*time.Second {
			t.Errorf("the link ended after %v, want about 4 s", took)
		}
		if s := ev.Err.Error(); !strings.Contains(s, "SUBACK") || !strings.Contains(s, `t`) {
			t.Errorf("Disconnected by %q", s)
		}
		wantErr(t, "Disconnected", ev.Err, context.DeadlineExceeded)
		w = d.up(server.Connack)
		w.Expect("82 09 0003 02 0B03 0001 74 11")
	})
}

// Wherever a Conn stands without a link, its end takes less than a second,
// and nothing is dialed any more.
func TestEndStopsTrying(t *testing.T) {
	ends := map[string]func(*mqtt.Conn, context.CancelFunc){
		"Close":      func(c *mqtt.Conn, _ context.CancelFunc) { c.Close() },
		"Abort":      func(c *mqtt.Conn, _ context.CancelFunc) { c.Abort() },
		"Disconnect": func(c *mqtt.Conn, _ context.CancelFunc) { c.Disconnect(context.Background()) },
		"context":    func(_ *mqtt.Conn, cancel context.CancelFunc) { cancel() },
	}
	for name, end := range ends {
		for _, tt := range stalls {
			t.Run(name+" in "+tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					network := &server.Network{}
					if tt.play == nil { // before the first dial
						network.OnDial(func(int, string) error { return server.ErrUnanswered })
					}
					peer := server.NewPeer(t, network)
					d := dialURL(t, ctx, tt.url, append(slices.Clone(tt.opts), mqtt.WithQueuedQoS0(), mqtt.WithDialer(network.Dial))...)
					d.Peer, d.net = peer, network
					var w *server.Wire
					if tt.play != nil {
						w = d.Accept(t.Context())
						tt.play(w)
					}
					fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
					time.Sleep(time.Second)
					within(t, time.Second, "the end", func() {
						end(d.conn, cancel)
						<-d.conn.Done()
					})
					wantErr(t, "Err", d.conn.Err(), mqtt.ErrClosed)
					wantErr(t, "the pending publish", fut.Err(), mqtt.ErrClosed)
					n := d.net.Dials()
					time.Sleep(time.Hour)
					if got := d.net.Dials(); got != n {
						t.Errorf("%d dials after the end", got-n)
					}
					if w != nil {
						// A late CONNACK meets a closed socket.
						if _, err := w.Conn().Write(server.Hex(server.Connack)); err == nil {
							t.Error("the socket still takes bytes after the end")
						}
					}
				})
			})
		}
		t.Run(name+" in backoff", func(t *testing.T) { endInBackoff(t, end) })
	}
}

func endInBackoff(t *testing.T, end func(*mqtt.Conn, context.CancelFunc)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		d := dialURL(t, ctx, "mqtt://server", mqtt.WithBackoff(steady(time.Hour)))
		d.net.RefuseDials(-1, nil)
		await[mqtt.Retrying](t, d.conn.Events())
		synctest.Wait()
		if s := d.conn.State(); s != mqtt.StateWaiting {
			t.Errorf("state %v, want waiting", s)
		}
		within(t, time.Second, "the end", func() {
			end(d.conn, cancel)
			<-d.conn.Done()
		})
		n := d.net.Dials()
		time.Sleep(10 * time.Hour)
		if got := d.net.Dials(); got != n {
			t.Errorf("%d dials after the end", got-n)
		}
	})
}

// Delays double to the cap, are jittered over the whole span, and a policy
// is told attempt, error and the time the link was up, and may stop.
func TestBackoffDoublesToTheCap(t *testing.T) {
	t.Run("policy", policySeesTheAttempts)
	t.Run("1000 clients", firstDelaysOfManyClients)
}

func policySeesTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []backoff.Attempt
		policy := backoff.PolicyFunc(func(a backoff.Attempt) (time.Duration, bool) {
			seen = append(seen, a)
			return time.Second, a.N < 3
		})
		d := dial(t, mqtt.WithBackoff(policy))
		w := d.up(server.Connack)
		time.Sleep(time.Minute)
		d.net.RefuseDials(-1, nil)
		w.Cut()
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), syscall.ECONNREFUSED)
		if len(seen) != 3 || seen[0].N != 1 || seen[0].Up != time.Minute || seen[1].N != 2 || seen[1].Up != 0 || seen[2].N != 3 {
			t.Errorf("the policy saw %+v", seen)
		}
		wantErr(t, "the first attempt's error", seen[0].Err, syscall.ECONNRESET)
		wantErr(t, "the second attempt's error", seen[1].Err, syscall.ECONNREFUSED)
	})
}

func firstDelaysOfManyClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000 // the bounds below are nine standard deviations away
		var network server.Network
		srv := server.Start(&network, server.Config{})
		var conns []*mqtt.Conn
		for range n {
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		network.RefuseDials(-1, nil)
		cut := time.Now()
		network.CutAll()
		var first []time.Duration
		for _, conn := range conns {
			ev := await[mqtt.Retrying](t, conn.Events())
			first = append(first, ev.Delay)
			if ev.Delay < 0 || ev.Delay > time.Second {
				t.Fatalf("first delay %v, want within 1 s", ev.Delay)
			}
		}
		slices.Sort(first)
		for i, share := range []int{n / 4, n / 2, 3 * n / 4} {
			want := time.Duration(i+1) * 250 * time.Millisecond
			if got := first[share]; got < want-150*time.Millisecond || got > want+150*time.Millisecond {
				t.Errorf("quartile %d of the first delays is %v, want about %v", i+1, got, want)
			}
		}
		time.Sleep(time.Hour)
		if time.Since(cut) < time.Hour {
			t.Fatal("no time passed")
		}
		for _, conn := range conns {
			for _, ev := range drainEvents(conn.Events()) {
				if r, ok := ev.(mqtt.Retrying); ok && r.Delay > 120*time.Second {
					t.Errorf("delay %v above the cap", r.Delay)
				}
			}
			conn.Abort()
		}
		srv.Close()
	})
}
