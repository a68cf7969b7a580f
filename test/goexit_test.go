package mqtt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A handler that ends its goroutine, as t.FailNow does, does not end its
// subscription: its message comes once more, and the others follow in order.
func TestHandlerThatEndsItsGoroutineGoesOn(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		for qos := range byte(3) {
			d := dial(t, mqtt.WithVersions(v))
			w := d.up(connack(v, false))
			sub := grantedSub(t, d, w, v, "t", mqtt.QoS(qos))
			var mu sync.Mutex
			var got []string
			if err := sub.Handle(func(m mqtt.Message) {
				mu.Lock()
				got = append(got, string(m.Payload))
				first := len(got) == 1
				mu.Unlock()
				if first {
					runtime.Goexit()
				}
			}); err != nil {
				t.Fatal(err)
			}
			w.SendBytes(rawPublish(v, 0x30|qos<<1, 1, "t", "1"))
			w.SendBytes(rawPublish(v, 0x30|qos<<1, 2, "t", "2"))
			synctest.Wait()
			if qos == 1 {
				w.Expect("40 02 0001 40 02 0002")
			}
			if qos == 2 {
				w.Expect("50 02 0001 50 02 0002")
			}
			mu.Lock()
			if want := []string{"1", "1", "2"}; !slices.Equal(got, want) {
				t.Errorf("QoS %d: the handler had %q, want %q", qos, got, want)
			}
			mu.Unlock()
			if st := sub.Stats(); st.Pending != 0 || st.Dropped != 0 || st.Delivered != 2 {
				t.Errorf("QoS %d: %+v", qos, st)
			}
			d.conn.Abort()
		}
	})
}

// A handler that ends its goroutine each time has a message twice: then it is
// given up, acknowledged and reported, so that those behind it come.
func TestHandlerThatAlwaysEndsItsGoroutineGivesUpTheMessage(t *testing.T) {
	for _, workers := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			d, w, sub := dialGranted(t, "t", 1, mqtt.WithWorkers(workers))
			var calls atomic.Int64
			if err := sub.Handle(func(mqtt.Message) { calls.Add(1); runtime.Goexit() }); err != nil {
				t.Fatal(err)
			}
			events := d.conn.Watch(t.Context())
			for id := range uint16(10) {
				w.SendBytes(rawPublish(mqtt.V5, 0x32, id+1, "t", "x"))
			}
			synctest.Wait()
			if n := calls.Load(); n != 20 {
				t.Errorf("the handler was called %d times, want twice for each of 10 messages", n)
			}
			for id := range byte(10) {
				w.Expect("40 02 00 0" + string("123456789A"[id]))
			}
			e := await[mqtt.MessageDropped](t, events)
			wantErr(t, "the event", e.Err, mqtt.ErrHandlerExited)
			if st := sub.Stats(); st.Pending != 0 || st.Dropped != 10 || st.Delivered != 0 || e.Topic != "t" {
				t.Errorf("%+v, topic %q", st, e.Topic)
			}
			drained(t, d.conn) // nothing is in hand
		})
	}
}

// drained checks that Drain has nothing to wait for.
func drained(t *testing.T, conn *mqtt.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	within(t, time.Second, "Drain", func() { wantErr(t, "Drain", conn.Drain(ctx), nil) })
}

// Under WithManualAck the acknowledgement is the application's: a message whose
// handler ended its goroutine counts as handed over.
func TestHandlerThatEndsItsGoroutineWithManualAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, sub := dialGranted(t, "t", 1, mqtt.WithManualAck())
		var got []mqtt.Message
		if err := sub.Handle(func(m mqtt.Message) { got = append(got, m); runtime.Goexit() }); err != nil {
			t.Fatal(err)
		}
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 2, "t", "2"))
		synctest.Wait()
		w.ExpectNothing(time.Second)
		if len(got) != 2 {
			t.Fatalf("the handler had %v", got)
		}
		for _, m := range got {
			wantErr(t, "Ack", m.Ack(), nil)
		}
		w.Expect("40 02 0001")
		w.Expect("40 02 0002")
		drained(t, d.conn)
	})
}

// A handler that ends its goroutine while the subscription is paused, or has
// ended, is not called again.
func TestHandlerThatEndsItsGoroutineAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, sub := dialGranted(t, "t", 1)
		var calls atomic.Int64
		if err := sub.Handle(func(mqtt.Message) {
			if calls.Add(1) == 1 {
				sub.Pause()
				runtime.Goexit()
			}
		}); err != nil {
			t.Fatal(err)
		}
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
		w.ExpectNothing(time.Second)
		if n, st := calls.Load(), sub.Stats(); n != 1 || st.Pending != 1 {
			t.Errorf("%d calls, %+v while paused", n, st)
		}
		sub.Resume()
		w.Expect("40 02 0001")
		if n := calls.Load(); n != 2 {
			t.Errorf("%d calls after Resume", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d, w, sub := dialGranted(t, "t", 1)
		var calls atomic.Int64
		if err := sub.Handle(func(mqtt.Message) { calls.Add(1); d.conn.Close(); runtime.Goexit() }); err != nil {
			t.Fatal(err)
		}
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
		w.Expect("E0 00") // and no PUBACK
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

// A codec that ends its goroutine has the message twice, in each form.
func TestCodecThatEndsItsGoroutineGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		calls := 0
		codec := mqtt.CodecFunc[string]{DecodeFunc: func(m mqtt.Message) (string, error) {
			if calls++; calls == 1 || string(m.Payload) == "bad" {
				runtime.Goexit()
			}
			return string(m.Payload), nil
		}}
		values := mqtt.AsTyped(grantedSub(t, d, w, mqtt.V5, "t", 1), codec).C()
		for i, p := range []string{"1", "bad", "3"} {
			w.SendBytes(rawPublish(mqtt.V5, 0x32, uint16(i+1), "t", p))
		}
		for _, want := range []string{"1", "3"} {
			if v := take(t, values); v.Value != want || v.Err != nil {
				t.Errorf("got %+v, want %q", v, want)
			}
		}
		if calls != 5 {
			t.Errorf("the codec was called %d times, want 5", calls)
		}
		w.Expect("40 02 0001")
		w.Expect("40 02 0002")
		w.Expect("40 02 0003")
		wantErr(t, "Close", d.conn.Close(), nil)
		drainClosed(t, values)
	})
}

// A body of All that ends its goroutine leaves its message pending, for the next loop.
func TestLoopBodyThatEndsItsGoroutineLeavesTheMessagePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w, sub := dialGranted(t, "t", 1)
		over := make(chan struct{})
		go func() {
			defer close(over)
			for range sub.All() {
				runtime.Goexit()
			}
		}()
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
		<-over
		w.ExpectNothing(time.Second)
		for m := range sub.All() {
			if string(m.Payload) != "1" {
				t.Errorf("got %q", m.Payload)
			}
			break
		}
		w.Expect("40 02 0001")
	})
}

// A function of the application that ends its goroutine during an attempt fails the
// attempt, with an error that names it, and the Conn goes on.
func TestAttemptSurvivesAFunctionThatEndsItsGoroutine(t *testing.T) {
	var calls atomic.Int64
	exitOnce := func() {
		if calls.Add(1) == 1 {
			runtime.Goexit()
		}
	}
	dialer := func(n *server.Network) func(context.Context, string, string) (net.Conn, error) { return n.Dial }
	for name, option := range map[string]func(*server.Network) []mqtt.ConnectOption{
		"credentials function": func(*server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { exitOnce(); return mqtt.Credentials{}, nil })}
		},
		"dialer": func(n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				exitOnce()
				return dialer(n)(ctx, network, address)
			})}
		},
		"error policy": func(n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{failFirst(n), mqtt.WithErrorPolicy(func(error) mqtt.Decision { exitOnce(); return mqtt.DecideDefault })}
		},
		"backoff policy": func(n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{failFirst(n), mqtt.WithBackoff(backoff.PolicyFunc(func(backoff.Attempt) (time.Duration, bool) { exitOnce(); return time.Second, true }))}
		},
		"log handler": func(*server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithLogger(slog.New(logFunc(func(slog.Record) { exitOnce() })))}
		},
		"packet hook": func(*server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithPacketHook(func(mqtt.PacketInfo) { exitOnce() })}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls.Store(0)
				network := &server.Network{}
				srv := server.Start(network, server.Config{})
				defer srv.Close()
				opts := append([]mqtt.ConnectOption{mqtt.WithDialer(network.Dial), mqtt.WithFirstConnect(mqtt.FirstConnectRetry)}, option(network)...)
				conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
				if err != nil {
					t.Fatal(err)
				}
				wantErr(t, "a publish", conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1}).Wait(t.Context()), nil)
				if calls.Load() == 0 {
					t.Error("the function was not called")
				}
				wantErr(t, "Close", conn.Close(), nil)
			})
		})
	}
}

// failFirst makes the first dial fail.
func failFirst(n *server.Network) mqtt.ConnectOption {
	failed := false
	return mqtt.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		if !failed {
			failed = true
			return nil, errors.New("not yet")
		}
		return n.Dial(ctx, network, address)
	})
}

// logFunc is a log handler of one function.
type logFunc func(slog.Record)

func (logFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f logFunc) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f logFunc) WithGroup(string) slog.Handler      { return f }

// A TLS callback that ends its goroutine fails the attempt, and its socket is closed.
func TestTLSCallbackThatEndsItsGoroutineFailsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		peer := server.NewPeer(t, network)
		config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { runtime.Goexit(); return nil }}
		go func() {
			nc := peer.Accept(t.Context()).Conn()
			conn := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
			_ = conn.Handshake()
			_, _ = conn.Read(make([]byte, 1)) // until the client closes
			nc.Close()
		}()
		_, err := mqtt.Connect(t.Context(), "mqtts://server", mqtt.WithDialer(network.Dial), mqtt.WithTLS(config))
		e, ok := errors.AsType[*mqtt.CallbackError](err)
		if !ok || !e.Exited || !strings.Contains(e.Function, "TLS") {
			t.Errorf("got %v", err)
		}
	})
}

// A packet hook that ends the goroutine of reader or writer ends the link with an
// error that names it, and the message goes out on the next.
func TestHookThatEndsItsGoroutineEndsTheLink(t *testing.T) {
	for _, sent := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var once sync.Once
			d := dial(t, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
				if p.Sent == sent && (p.Type == codec.PUBLISH || p.Type == codec.PUBACK) {
					once.Do(runtime.Goexit)
				}
			}), mqtt.WithSession(time.Hour))
			w := d.up(server.Connack)
			events := d.conn.Watch(t.Context())
			f := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1, Payload: []byte("x")})
			f0 := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("0")})
			synctest.Wait()
			if !sent {
				w.ExpectPacket()
				w.ExpectPacket()
				w.Send("40 02 0001")
			}
			e := await[mqtt.Disconnected](t, events)
			c, ok := errors.AsType[*mqtt.CallbackError](e.Err)
			if !ok || !c.Exited || c.Function != "packet hook" {
				t.Errorf("the link ended with %v", e.Err)
			}
			w.Rest()
			if err := f0.Err(); sent && !errors.Is(err, mqtt.ErrLinkLost) || !sent && err != nil {
				t.Errorf("QoS 0: %v", err)
			}
			w2 := d.up("20 03 01 00 00")
			w2.ExpectPacket()
			w2.Send("40 02 0001")
			succeeded(t, f)
			wantErr(t, "Close", d.conn.Close(), nil)
		})
	}
}

// A net.Conn that ends the goroutine that uses it ends the link, or the attempt.
func TestNetConnThatEndsItsGoroutine(t *testing.T) {
	for _, at := range []int{1, 2} { // the first Read is that of CONNACK
		synctest.Test(t, func(t *testing.T) {
			network := &server.Network{}
			srv := server.Start(network, server.Config{})
			defer srv.Close()
			reads := 0
			conn, err := mqtt.Connect(context.Background(), "mqtt://server", mqtt.WithFirstConnect(mqtt.FirstConnectBackground),
				mqtt.WithDialer(func(ctx context.Context, n, address string) (net.Conn, error) {
					nc, err := network.Dial(ctx, n, address)
					return exitingConn{nc, func() {
						if reads++; reads == at {
							nc.Close()
							runtime.Goexit()
						}
					}}, err
				}))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			failed := await[mqtt.Retrying](t, conn.Watch(ctx))
			if e, ok := errors.AsType[*mqtt.CallbackError](failed.Err); !ok || !e.Exited {
				t.Errorf("it failed with %v", failed.Err)
			}
			wantErr(t, "a publish on the next link", conn.Publish(ctx, mqtt.Message{Topic: "t", QoS: 1}).Wait(ctx), nil)
			wantErr(t, "Close", conn.Close(), nil)
		})
	}
}

type exitingConn struct {
	net.Conn
	exit func()
}

func (c exitingConn) Read(b []byte) (int, error) {
	c.exit()
	return c.Conn.Read(b)
}
