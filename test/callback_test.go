package mqtt_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// enders are the calls that end a Conn, each within 5 s.
var enders = map[string]func(*mqtt.Conn) error{
	"Close": (*mqtt.Conn).Close,
	"Disconnect": func(c *mqtt.Conn) error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.Disconnect(ctx)
	},
	"Drain": func(c *mqtt.Conn) error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.Drain(ctx)
	},
	"Abort": func(c *mqtt.Conn) error { c.Abort(); return nil },
}

// A function of the application that ends the Conn, in a place where the Conn waits for
// its answer, gets an answer itself: the Conn does not wait for it to return.
func TestFunctionThatAnAttemptWaitsForMayEndTheConn(t *testing.T) {
	for name, option := range map[string]func(end func(), n *server.Network) []mqtt.ConnectOption{
		"credentials function": func(end func(), _ *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { end(); return mqtt.Credentials{}, nil })}
		},
		"dialer": func(end func(), n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithDialer(func(_ context.Context, network, address string) (net.Conn, error) {
				end()
				return n.Dial(context.Background(), network, address) // which must be closed
			})}
		},
		"error policy": func(end func(), n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{failFirst(n), mqtt.WithErrorPolicy(func(error) mqtt.Decision { end(); return mqtt.DecideStop })}
		},
		"backoff policy": func(end func(), n *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{failFirst(n), mqtt.WithBackoff(backoff.PolicyFunc(func(backoff.Attempt) (time.Duration, bool) { end(); return 0, false }))}
		},
		"SRV lookup": func(end func(), _ *server.Network) []mqtt.ConnectOption {
			return []mqtt.ConnectOption{mqtt.WithServers("mqtt+srv://example.org"), mqtt.WithDialer(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no") }),
				mqtt.WithSRVLookup(func(context.Context, string, string, string) (string, []*net.SRV, error) { end(); return "", nil, nil })}
		},
	} {
		for how, end := range enders {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					network := &server.Network{}
					srv := server.Start(network, server.Config{})
					defer srv.Close()
					conns, returned := make(chan *mqtt.Conn, 1), make(chan struct{})
					var once sync.Once
					f := func() {
						once.Do(func() {
							defer close(returned)
							conn := <-conns
							within(t, time.Second, how, func() { wantErr(t, how, end(conn), nil) })
						})
					}
					opts := append([]mqtt.ConnectOption{mqtt.WithDialer(network.Dial), mqtt.WithFirstConnect(mqtt.FirstConnectBackground)}, option(f, network)...)
					conn, err := mqtt.Connect(context.Background(), "mqtt://server", opts...)
					if err != nil {
						t.Fatal(err)
					}
					conns <- conn
					<-returned
					<-conn.Done()
					wantErr(t, "Err", conn.Err(), mqtt.ErrClosed)
				})
			})
		}
	}
}

// An error policy that closes the Conn is what it ends for, also where the library would
// end it for the error.
func TestErrorPolicyThatClosesIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan *mqtt.Conn, 1)
		d := dial(t, mqtt.WithErrorPolicy(func(error) mqtt.Decision { (<-conns).Close(); return mqtt.DecideDefault }))
		conns <- d.conn
		w := d.up(server.Connack)
		w.Send("E0 01 8E") // taken over
		<-d.conn.Done()
		if err := d.conn.Err(); err != mqtt.ErrClosed {
			t.Errorf("Err: %v", err)
		}
	})
}

// A function that ignores its context does not hold up the end of the Conn either.
func TestFunctionThatIgnoresItsContextDoesNotHoldUpClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		defer close(forever)
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithFirstConnect(mqtt.FirstConnectBackground),
			mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { <-forever; return mqtt.Credentials{}, nil }))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		within(t, time.Second, "Close", func() { wantErr(t, "Close", conn.Close(), nil) })
		<-conn.Done()
	})
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		defer close(forever)
		within(t, 11*time.Second, "Connect", func() {
			_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { <-forever; return mqtt.Credentials{}, nil }))
			wantErr(t, "Connect", err, context.DeadlineExceeded)
		})
		within(t, 11*time.Second, "Connect", func() {
			_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(func(context.Context, string, string) (net.Conn, error) { <-forever; return nil, errors.New("late") }))
			wantErr(t, "Connect", err, context.DeadlineExceeded)
		})
	})
}

// A log handler may end the Conn at any record, the first and the last of its life
// included, and every record up to the last is with it.
func TestLogHandlerMayEndTheConn(t *testing.T) {
	for _, at := range []string{"mqtt: connected", "mqtt: disconnected", "mqtt: retrying", "mqtt: connect failed", "mqtt: closed"} {
		for how, end := range enders {
			t.Run(at+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var mu sync.Mutex
					var records []string
					conns := make(chan *mqtt.Conn, 1)
					var once sync.Once
					handler := logFunc(func(r slog.Record) {
						mu.Lock()
						records = append(records, r.Message)
						mu.Unlock()
						if r.Message == at {
							once.Do(func() {
								within(t, 2*time.Second, how, func() { wantErr(t, how, end(<-conns), nil) })
							})
						}
					})
					d := dial(t, mqtt.WithLogger(slog.New(handler)))
					conns <- d.conn
					w := d.up(server.Connack)
					switch at {
					case "mqtt: connected":
					case "mqtt: closed":
						d.conn.Close()
					case "mqtt: connect failed":
						d.net.RefuseDials(1, nil)
						w.Close()
					default:
						w.Close()
					}
					<-d.conn.Done()
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					if n := len(records); !slices.Contains(records, at) || records[n-1] != "mqtt: closed" {
						t.Errorf("the records were %q", records)
					}
					if at == "mqtt: connected" && how != "Abort" {
						w.Expect("E0 00")
					}
				})
			})
		}
	}
}

// A slow log handler is waited for: its records are in order, the last one included.
func TestSlowLogHandlerLosesNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []string
		d := dial(t, mqtt.WithLogger(slog.New(logFunc(func(r slog.Record) {
			time.Sleep(200 * time.Millisecond)
			records = append(records, r.Message)
		}))))
		w := d.Accept(t.Context())
		w.Handshake(server.Connack)
		time.Sleep(time.Second)
		d.conn.Close()
		if want := []string{"mqtt: connected", "mqtt: disconnected", "mqtt: closed"}; !slices.Equal(records, want) {
			t.Errorf("when Close returned the records were %q", records)
		}
	})
}

// A packet hook runs on the goroutines of the link. When it ends the Conn the call
// returns at its bound, with an error that names it, and the Conn ends behind it.
func TestPacketHookThatEndsTheConnGetsAnError(t *testing.T) {
	for _, sent := range []bool{true, false} {
		for how, end := range enders {
			t.Run(how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var conn *mqtt.Conn
					result := make(chan error, 1)
					limit := 5 * time.Second
					if how == "Abort" {
						limit = 250 * time.Millisecond
					}
					d := dial(t, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
						if p.Sent == sent && (p.Type == codec.PUBLISH || p.Type == codec.PUBACK) {
							within(t, limit, how, func() { result <- end(conn) })
							select {
							case <-conn.Done():
								t.Error("Done was closed while the hook ran")
							default:
							}
						}
					}))
					conn = d.conn
					w := d.up(server.Connack)
					conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
					synctest.Wait()
					if !sent {
						w.ExpectPacket()
						w.Send("40 02 0001")
					}
					err := <-result
					e, ok := errors.AsType[*mqtt.CallbackError](err)
					if how != "Abort" && (!ok || e.Exited || e.Function != "packet hook" || !errors.Is(err, context.DeadlineExceeded)) {
						t.Errorf("%s in a hook: %v", how, err)
					}
					within(t, time.Second, "the end", func() { <-conn.Done() })
					wantErr(t, "Err", conn.Err(), mqtt.ErrClosed)
				})
			})
		}
	}
}

// A packet hook may end the Conn at a packet of the handshake.
func TestPacketHookMayEndTheConnDuringTheHandshake(t *testing.T) {
	for _, typ := range []codec.Type{codec.CONNECT, codec.CONNACK} {
		for how, end := range enders {
			synctest.Test(t, func(t *testing.T) {
				conns := make(chan *mqtt.Conn, 1)
				d := dial(t, mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
					if p.Type == typ {
						within(t, time.Second, how, func() { wantErr(t, how, end(<-conns), nil) })
					}
				}))
				conns <- d.conn
				w := d.Accept(t.Context())
				w.ExpectPacket()
				if typ == codec.CONNACK {
					w.Send(server.Connack)
				}
				<-d.conn.Done()
				w.Rest()
			})
		}
	}
}

// A codec that ends the Conn does so: the end of the Conn leaves it behind.
func TestCodecMayEndTheConn(t *testing.T) {
	for how, end := range enders {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t)
				w := d.up(server.Connack)
				result := make(chan error, 1)
				codec := mqtt.CodecFunc[string]{DecodeFunc: func(mqtt.Message) (string, error) {
					within(t, 5*time.Second+time.Second, how, func() { result <- end(d.conn) })
					return "", nil
				}}
				values := mqtt.AsTyped(grantedSub(t, d, w, mqtt.V5, "t", 1), codec).C()
				w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
				err := <-result
				if e, ok := errors.AsType[*mqtt.CallbackError](err); how == "Drain" != (ok && strings.HasPrefix(e.Function, "codec of")) {
					t.Errorf("%s in a codec: %v", how, err)
				}
				<-d.conn.Done()
				drainClosed(t, values)
				if rest := w.Rest(); how != "Abort" && string(rest) != "\xE0\x00" {
					t.Errorf("the last bytes were % X: the message must stay unacknowledged", rest)
				}
			})
		})
	}
}

// Drain in a handler, or in the body of a loop over All, waits for itself until its
// context ends; the error says so. The Conn ends.
func TestDrainInAHandlerSaysWhatItWaitedFor(t *testing.T) {
	for _, form := range []string{"handler", "body of All"} {
		synctest.Test(t, func(t *testing.T) {
			d, w, sub := dialGranted(t, "t", 1)
			result := make(chan error, 1)
			body := func(mqtt.Message) {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				within(t, 3*time.Second, "Drain", func() { result <- d.conn.Drain(ctx) })
			}
			if form == "handler" {
				sub.Handle(body)
			} else {
				go func() {
					for m := range sub.All() {
						body(m)
					}
				}()
			}
			w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
			err := <-result
			e, ok := errors.AsType[*mqtt.CallbackError](err)
			if !ok || e.Function != form+` of "t"` || e.Exited || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain in a %s: %v", form, err)
			}
			<-d.conn.Done()
		})
	}
}

// Drain that ends before everything was handed over says so.
func TestDrainCutShortByItsContextSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, sub := dialGranted(t, "t", 1, mqtt.WithBuffer(0))
		sub.C() // and nothing reads
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "1"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "Drain", d.conn.Drain(ctx), context.DeadlineExceeded)
	})
}

// A session store that ends its goroutine ends the Conn, with an error that names it.
func TestStoreThatEndsItsGoroutineEndsTheConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithClientID("c"),
			mqtt.WithSession(time.Hour), mqtt.WithStore(exitingStore{new(store.Memory)}))
		if err != nil {
			t.Fatal(err)
		}
		f := conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		<-conn.Done()
		if p, ok := errors.AsType[*mqtt.PublishError](f.Err()); !ok || !p.Kept {
			t.Errorf("the publish: %v", f.Err())
		}
		if e, ok := errors.AsType[*mqtt.CallbackError](conn.Err()); !ok || e.Function != "session store" {
			t.Errorf("Err: %v", conn.Err())
		}
	})
}

// exitingStore ends the goroutine of every Commit with a message in it.
type exitingStore struct{ *store.Memory }

func (s exitingStore) Session(clientID string) (store.Session, error) {
	in, err := s.Memory.Session(clientID)
	return exitingSession{in}, err
}

type exitingSession struct{ store.Session }

func (s exitingSession) Commit(ops []store.Op) error {
	if slices.ContainsFunc(ops, func(o store.Op) bool { return o.Key.Kind == store.Outgoing }) {
		runtime.Goexit()
	}
	return s.Session.Commit(ops)
}
