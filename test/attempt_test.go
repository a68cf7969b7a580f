package mqtt_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
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
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

var proxyURL = &url.URL{Scheme: "http", Host: "proxy:3128"}

// stalls are the places where an attempt can come to a halt: what the peer does
// with the connection, and the step that the error names.
var stalls = []struct {
	name, url, step string
	opts            []mqtt.ConnectOption
	play            func(w *server.Wire) // nil: nobody answers the dial
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
					d := dialURL(t, ctx, tt.url, append(slices.Clone(tt.opts), mqtt.WithQueueQoS0(), mqtt.WithDialer(network.Dial))...)
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
		t.Run(name+" in backoff", func(t *testing.T) {
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
		})
	}
}

// What a first connect fails of can be told by type and by sentinel.
func TestConnectErrorsTellTheirCause(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    mqtt.Version
		ack  string
		is   error
		code codec.ReasonCode
	}{
		{"bad credentials", mqtt.V5, server.ConnackBadLogin, mqtt.ErrBadCredentials, 0x86},
		{"not authorized", mqtt.V5, server.ConnackForbidden, mqtt.ErrNotAuthorized, 0x87},
		{"banned", mqtt.V5, "20 03 00 8A 00", mqtt.ErrBanned, 0x8A},
		{"bad client id", mqtt.V5, server.ConnackBadID, mqtt.ErrClientIDRejected, 0x85},
		{"version", mqtt.V5, server.ConnackVersion5, mqtt.ErrUnsupportedVersion, 0x84},
		{"bad credentials 3.1.1", mqtt.V311, "20 02 00 04", mqtt.ErrBadCredentials, 4},
		{"not authorized 3.1.1", mqtt.V311, "20 02 00 05", mqtt.ErrNotAuthorized, 5},
		{"bad client id 3.1", mqtt.V31, "20 02 00 02", mqtt.ErrClientIDRejected, 2},
		{"version 3.1.1", mqtt.V311, server.ConnackVersion3, mqtt.ErrUnsupportedVersion, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				peer := server.NewPeer(t, &network)
				go func() { peer.Accept(t.Context()).Handshake(tt.ack) }()
				_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(tt.v))
				wantErr(t, "Connect", err, tt.is)
				if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Code != tt.code || e.Packet != codec.CONNACK {
					t.Errorf("got %v, want the code of the CONNACK", err)
				}
				if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "CONNACK" || e.Server != "mqtt://server" && e.Server != "mqtt://server:1883" {
					t.Errorf("got %#v, want a ConnectError at CONNACK", err)
				}
				if n := network.Dials(); n != 1 {
					t.Errorf("%d dials, want 1", n)
				}
			})
		})
	}
	t.Run("reason string and server reference", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network server.Network
			peer := server.NewPeer(t, &network)
			go func() { peer.Accept(t.Context()).Handshake("20 0D 00 9D 0A 1F 0002 6E6F 1C 0002 6232") }()
			_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
			if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Reason != "no" || e.ServerReference != "b2" {
				t.Errorf("got %v, want reason string and server reference", err)
			}
			if s := err.Error(); !strings.Contains(s, "b2") || !strings.Contains(s, "no") {
				t.Errorf("the text %q lacks what the server said", s)
			}
		})
	})
	t.Run("dial", func(t *testing.T) {
		var network server.Network
		network.RefuseDials(-1, nil)
		_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
		wantErr(t, "Connect", err, syscall.ECONNREFUSED)
		if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "dial" {
			t.Errorf("got %v, want a ConnectError at dial", err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		var network server.Network
		ln, err := network.Listen("server:8883")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			io.ReadAll(tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}))
		}()
		_, err = mqtt.Connect(t.Context(), "mqtts://server", mqtt.WithDialer(network.Dial))
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
			t.Errorf("got %v, want an x509.UnknownAuthorityError", err)
		}
		if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "tls" {
			t.Errorf("got %v, want a ConnectError at tls", err)
		}
	})
}

// The modes of the first connect.
func TestFirstConnectModes(t *testing.T) {
	t.Run("retry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network server.Network
			srv := server.Start(&network, server.Config{})
			defer srv.Close()
			network.RefuseDials(3, nil)
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial),
				mqtt.WithFirstConnect(mqtt.FirstConnectRetry), mqtt.WithBackoff(steady(time.Second)))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n := network.Dials(); n != 4 || conn.State() != mqtt.StateConnected {
				t.Errorf("%d dials and state %v, want 4 and connected", n, conn.State())
			}
		})
	})
	t.Run("retry until the context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network server.Network
			network.RefuseDials(-1, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := mqtt.Connect(ctx, "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithFirstConnect(mqtt.FirstConnectRetry))
			wantErr(t, "Connect", err, context.DeadlineExceeded)
			if !strings.Contains(err.Error(), "WithConnectTimeout") {
				t.Errorf("%q does not name the option for the dial", err)
			}
		})
	})
	t.Run("background", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			if s := d.conn.State(); s != mqtt.StateConnecting {
				t.Errorf("state %v at once, want connecting", s)
			}
			fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
			wantErr(t, "QoS 0 without a link", d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrNotConnected)
			w := d.up(server.Connack)
			w.Expect("32 06 0001 74 0001 00")
			w.Send("40 02 0001")
			succeeded(t, fut)
		})
	})
	t.Run("policy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var seen []error
			policy := func(err error) mqtt.Decision {
				seen = append(seen, err)
				switch {
				case errors.Is(err, mqtt.ErrBadCredentials):
					return mqtt.DecideStop
				case errors.Is(err, mqtt.ErrTakenOver):
					return mqtt.DecideRetry
				}
				return mqtt.DecideDefault
			}
			d := dial(t, mqtt.WithErrorPolicy(policy))
			d.up(server.Connack).Send(server.DisconnectTaken)
			w := d.up(server.Connack) // in spite of the default
			w.Cut()
			d.accept(server.ConnackBadLogin)
			<-d.conn.Done()
			wantErr(t, "Err", d.conn.Err(), mqtt.ErrBadCredentials)
			if len(seen) != 3 {
				t.Errorf("the policy saw %v", seen)
			}
		})
	})
	t.Run("after the first success refusals are retried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			d.up(server.Connack).Cut()
			d.accept(server.ConnackForbidden)
			d.accept(server.ConnackBadLogin)
			d.up(server.Connack)
			if s := d.conn.State(); s != mqtt.StateConnected {
				t.Errorf("state %v, want connected", s)
			}
		})
	})
	t.Run("a refused version ends the Conn after the first success", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			d.up(server.Connack).Cut()
			d.accept(server.ConnackVersion5)
			<-d.conn.Done()
			wantErr(t, "Err", d.conn.Err(), mqtt.ErrUnsupportedVersion)
		})
	})
}

// Delays double to the cap, are jittered over the whole span, and a policy
// is told attempt, error and the time the link was up, and may stop.
func TestBackoffDoublesToTheCap(t *testing.T) {
	t.Run("policy", func(t *testing.T) {
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
	})
	t.Run("1000 clients", func(t *testing.T) {
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
	})
}

// A lower version is tried only on a refusal of the version, on a new
// socket within the same attempt, and stays.
func TestVersionFallback(t *testing.T) {
	version := func(connect []byte) byte { return connect[8] }
	for _, refusal := range []string{server.ConnackVersion3, server.ConnackVersion5, "20 02 00 84"} {
		t.Run(refusal, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t)
				began := time.Now()
				w, first := d.accept(refusal)
				w2, second := d.accept(server.Connack3)
				synctest.Wait()
				if version(first) != 5 || version(second) != 4 || time.Since(began) != 0 {
					t.Errorf("versions %d and %d after %v, want 5 and 4 at once", version(first), version(second), time.Since(began))
				}
				w.ExpectEOF()
				if v := d.conn.Version(); v != mqtt.V311 {
					t.Errorf("the Conn says %v", v)
				}
				if ev := await[mqtt.Downgraded](t, d.conn.Events()); ev.What != "protocol version" || ev.From != "5.0" || ev.To != "3.1.1" {
					t.Errorf("Downgraded %+v", ev)
				}
				w2.Cut()
				if _, third := d.accept(server.Connack3); version(third) != 4 {
					t.Errorf("version %d on reconnect, want the one that worked", version(third))
				}
			})
		})
	}
	t.Run("no fallback", func(t *testing.T) {
		for _, ack := range []string{server.ConnackBusy, server.ConnackForbidden, "20 02 00 05", "20 03 00 01 00"} {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t)
				d.accept(ack)
				if _, second := d.accept(server.Connack); version(second) != 5 {
					t.Errorf("after % s: version %d", ack, version(second))
				}
			})
		}
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			w, _ := d.accept("")
			w.Cut()
			if _, second := d.accept(server.Connack); version(second) != 5 {
				t.Errorf("after a network error: version %d", version(second))
			}
		})
	})
	t.Run("close in place of an answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			w, _ := d.accept("")
			w.Close()
			ev := await[mqtt.Retrying](t, d.conn.Events())
			if s := ev.Err.Error(); !strings.Contains(s, "5.0") || !strings.Contains(s, "WithDowngradeOnClose") {
				t.Errorf("the error %q names neither version nor option", s)
			}
			if _, second := d.accept(server.Connack); version(second) != 5 {
				t.Errorf("version %d without the option", version(second))
			}
		})
		synctest.Test(t, func(t *testing.T) {
			d := dial(t, mqtt.WithDowngradeOnClose())
			w, _ := d.accept("")
			w.Close()
			if _, second := d.accept(server.Connack3); version(second) != 4 {
				t.Errorf("version %d with the option", version(second))
			}
		})
	})
	t.Run("every version refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var network server.Network
			srv := server.Start(&network, server.Config{Versions: []codec.Version{codec.V31}})
			defer srv.Close()
			_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
			wantErr(t, "Connect", err, mqtt.ErrUnsupportedVersion)
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V5, mqtt.V311, mqtt.V31))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if v := conn.Version(); v != mqtt.V31 {
				t.Errorf("version %v, want 3.1", v)
			}
		})
	})
}

// Several servers are one logical cluster, tried in order within a round.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		a, b := server.New(server.Config{}), server.New(server.Config{})
		lnA, _ := network.Listen("a:1883")
		lnB, _ := network.Listen("b:1883")
		go a.Serve(lnA)
		go b.Serve(lnB)
		defer a.Close()
		defer b.Close()
		down := "a:1883"
		var dialed []string
		network.OnDial(func(_ int, addr string) error {
			dialed = append(dialed, addr)
			if addr == down {
				return server.ErrUnanswered
			}
			return nil
		})
		began := time.Now()
		conn, err := mqtt.Connect(t.Context(), "mqtt://a", mqtt.WithServers("mqtt://b"), mqtt.WithDialer(network.Dial),
			mqtt.WithConnectTimeout(3*time.Second), mqtt.WithBackoff(steady(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("B was reached after %v, want one connect timeout", took)
		}
		// The next loss starts with the server that worked last.
		b.Restart(true)
		await[mqtt.Disconnected](t, conn.Events())
		if ev := await[mqtt.Connected](t, conn.Events()); !strings.Contains(ev.Server, "b") {
			t.Errorf("connected to %s after the loss, want b", ev.Server)
		}
		down = "b:1883"
		b.Restart(true)
		await[mqtt.Disconnected](t, conn.Events())
		if ev := await[mqtt.Connected](t, conn.Events()); !strings.Contains(ev.Server, "a") {
			t.Errorf("connected to %s with b down, want a", ev.Server)
		}
		if want := []string{"a:1883", "b:1883", "b:1883", "b:1883", "a:1883"}; !slices.Equal(dialed, want) {
			t.Errorf("dialed %v, want %v", dialed, want)
		}
	})
}

// When the whole round fails, the error has each server's.
func TestFailedRoundHasTheErrorOfEachServer(t *testing.T) {
	var network server.Network
	network.RefuseDials(-1, nil)
	_, err := mqtt.Connect(t.Context(), "mqtt://a", mqtt.WithServers("mqtt://b"), mqtt.WithDialer(network.Dial))
	if err == nil || !strings.Contains(err.Error(), "mqtt://a") || !strings.Contains(err.Error(), "mqtt://b") {
		t.Errorf("got %v, want both servers named", err)
	}
	wantErr(t, "Connect", err, syscall.ECONNREFUSED)
}

// A Server Reference is in the event and is not followed.
func TestServerReferenceIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		d.up(server.Connack).Send("E0 07 9C 05 1C 0002 6232")
		ev := await[mqtt.Disconnected](t, d.conn.Events())
		if e, ok := errors.AsType[*mqtt.ReasonError](ev.Err); !ok || e.ServerReference != "b2" || e.Code != codec.UseAnotherServer {
			t.Errorf("Disconnected by %v", ev.Err)
		}
		if ev := await[mqtt.Connecting](t, d.conn.Events()); !strings.Contains(ev.Server, "server") {
			t.Errorf("the next attempt is at %s", ev.Server)
		}
	})
}
