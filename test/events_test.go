package mqtt_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Over any sequence of links the events come in order, with exactly one
// Disconnected for each Connected and Closed last, and the state read then agrees.
func TestEventsAreInOrder(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(chance.Rounds(20, 500)) {
		synctest.Test(t, func(t *testing.T) {
			rnd := chance.Stream(seed, round)
			var network server.Network
			peer := server.NewPeer(t, &network)
			peer.Timeout = time.Minute
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V5),
				mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithKeepAlive(5*time.Second), mqtt.WithBackoff(steady(time.Second)))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan []mqtt.Event)
			go func() {
				var all []mqtt.Event
				for ev := range conn.Events() {
					all = append(all, ev)
					checkState(t, round, conn, ev)
				}
				done <- all
			}()
			links := 0
			for range 12 {
				w := peer.Accept(t.Context())
				switch rnd.IntN(5) {
				case 0:
					w.Handshake(server.ConnackBusy)
					continue
				case 1:
					w.Handshake("")
					w.Cut()
					continue
				}
				w.Handshake(server.Connack)
				links++
				synctest.Wait()
				switch rnd.IntN(5) {
				case 0:
					w.Cut()
				case 1:
					w.Close()
				case 2:
					w.Send("E0 01 89")
				case 3:
					w.Drop(server.Both) // until the keep alive notices
				case 4: // not the same fault each time: that ends the Conn
					w.SendBytes([]byte{[]byte{0xC0, 0x20, 0x10}[links%3], 0})
				}
			}
			t.Cleanup(conn.Abort)
			conn.Close()
			checkOrder(t, round, <-done, links)
		})
	}
}

// checkState compares the state with what ev says; the test's goroutines may
// have moved on, but a link never comes up while the peer waits.
func checkState(t *testing.T, round uint64, conn *mqtt.Conn, ev mqtt.Event) {
	if _, closed := ev.(mqtt.Closed); closed && conn.State() != mqtt.StateClosed {
		t.Errorf("round %d: state %v at Closed", round, conn.State())
	}
	if _, down := ev.(mqtt.Disconnected); down && conn.State() == mqtt.StateConnected {
		t.Errorf("round %d: state connected at Disconnected", round)
	}
	if _, up := ev.(mqtt.Connected); up && conn.State() == mqtt.StateConnecting {
		t.Errorf("round %d: state connecting at Connected", round)
	}
}

func checkOrder(t *testing.T, round uint64, events []mqtt.Event, links int) {
	t.Helper()
	phase, connected := "begin", 0
	for i, ev := range events {
		next := ""
		var allowed []string
		switch ev.(type) {
		case mqtt.Connecting:
			next, allowed = "connecting", []string{"begin", "waiting"}
		case mqtt.Connected:
			next, allowed = "up", []string{"connecting"}
			connected++
		case mqtt.Disconnected:
			next, allowed = "down", []string{"up"}
		case mqtt.Retrying:
			next, allowed = "waiting", []string{"connecting", "down"}
		case mqtt.Closed:
			next, allowed = "closed", []string{"connecting", "down", "waiting"}
		default:
			continue
		}
		fits := false
		for _, a := range allowed {
			fits = fits || a == phase
		}
		if !fits {
			t.Errorf("round %d: %T is event %d after phase %q", round, ev, i, phase)
		}
		if ev.Info().Time.IsZero() {
			t.Errorf("round %d: %T without a time", round, ev)
		}
		phase = next
	}
	if phase != "closed" || connected != links {
		t.Errorf("round %d: the events end in %q with %d Connected, want closed and %d", round, phase, connected, links)
	}
}

// What ended a link is told: server code and text, keep alive, network, local.
func TestDisconnectedTellsTheReason(t *testing.T) {
	reason := func(code codec.ReasonCode, text string) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*mqtt.ReasonError](err)
			return ok && e.Code == code && e.Reason == text && e.Packet == codec.DISCONNECT
		}
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, tt := range []struct {
		name string
		end  func(*dialed, *server.Wire)
		fits func(error) bool
	}{
		{"code", func(_ *dialed, w *server.Wire) { w.Send("E0 01 8B") }, reason(0x8B, "")},
		{"code and text", func(_ *dialed, w *server.Wire) { w.Send("E0 07 97 05 1F 0002 6E6F") }, reason(0x97, "no")},
		{"taken over, no properties", func(_ *dialed, w *server.Wire) { w.Send("E0 01 8E") }, reason(0x8E, "")},
		{"normal, empty", func(_ *dialed, w *server.Wire) { w.Send("E0 00") }, reason(0, "")},
		{"keep alive", func(_ *dialed, w *server.Wire) { w.Stall(server.ToClient) }, is(mqtt.ErrKeepAlive)},
		{"Reconnect", func(d *dialed, _ *server.Wire) { d.conn.Reconnect() }, is(mqtt.ErrClosed)},
		{"Close", func(d *dialed, _ *server.Wire) { go d.conn.Close() }, is(mqtt.ErrClosed)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithKeepAlive(10*time.Second))
				w := d.up(server.Connack)
				tt.end(d, w)
				if ev := await[mqtt.Disconnected](t, d.conn.Events()); !tt.fits(ev.Err) {
					t.Errorf("Disconnected by %v", ev.Err)
				}
			})
		})
	}
}

// Events that are not read block nothing, memory is bounded, and what was missed is
// counted.
func TestUnreadEventsBlockNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		const cuts = 100
		for range cuts {
			d.up(server.Connack).Cut()
		}
		d.conn.Close()
		events := d.conn.Events()
		if n := cap(events); n > 1024 {
			t.Errorf("the channel holds %d events", n)
		}
		all := drainEvents(events)
		missed := 0
		for _, ev := range all {
			missed += ev.Info().Missed
		}
		// Connecting, Connected, Disconnected and Retrying for each link, without
		// the last Retrying or with one attempt more, and Closed.
		if total := missed + len(all); total < 4*cuts || total > 4*cuts+3 {
			t.Errorf("%d events read and %d missed, want about %d", len(all), missed, 4*cuts)
		}
		if _, ok := all[len(all)-1].(mqtt.Closed); !ok {
			t.Errorf("the last event is %T", all[len(all)-1])
		}
	})
}

// Watch begins with the current state, ends with its context or the Conn, and
// takes nothing from others.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		ctx, cancel := context.WithCancel(t.Context())
		one, two := d.conn.Watch(ctx), d.conn.Watch(t.Context())
		for _, ch := range []<-chan mqtt.Event{one, two} {
			if ev := <-ch; ev.Info().Link != 1 {
				t.Errorf("%#v is not of link 1", ev)
			} else if _, ok := ev.(mqtt.Connected); !ok {
				t.Errorf("a Watch begins with %T", ev)
			}
		}
		cancel()
		synctest.Wait()
		if _, open := <-one; open {
			t.Error("the channel is open after the end of its context")
		}
		w.Cut()
		await[mqtt.Disconnected](t, two)
		await[mqtt.Disconnected](t, d.conn.Events())
		d.conn.Close()
		await[mqtt.Closed](t, two)
		if _, open := <-two; open {
			t.Error("the channel is open after Closed")
		}
		late := d.conn.Watch(t.Context())
		if ev, open := <-late; !open {
			t.Error("a late Watch says nothing")
		} else if _, ok := ev.(mqtt.Closed); !ok {
			t.Errorf("a late Watch begins with %T", ev)
		}
		if _, open := <-late; open {
			t.Error("a late Watch stays open")
		}
	})
}

// WaitConnected honours its context, and tells when there is nothing to wait for.
func TestWaitConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "WaitConnected", d.conn.WaitConnected(ctx), context.DeadlineExceeded)
		go func() {
			time.Sleep(time.Second)
			d.up(server.Connack)
		}()
		if err := d.conn.WaitConnected(t.Context()); err != nil || d.conn.State() != mqtt.StateConnected {
			t.Errorf("WaitConnected: %v in state %v", err, d.conn.State())
		}
		d.conn.Close()
		wantErr(t, "WaitConnected after Close", d.conn.WaitConnected(t.Context()), mqtt.ErrClosed)
	})
}

// Reconnect ends the link by a DISCONNECT and connects at once, whatever the
// backoff; it cuts a wait short, and leaves no such shortcut behind.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithBackoff(steady(time.Hour)))
		w := d.up(server.Connack)
		began := time.Now()
		d.conn.Reconnect()
		w.Expect("E0 00")
		w.Close() // the server's part
		w = d.up(server.Connack)
		if took := time.Since(began); took != 0 {
			t.Errorf("reconnected after %v", took)
		}
		w.Cut()
		d.ExpectNoDial(time.Minute)
		d.conn.Reconnect()
		d.up(server.Connack).Cut()
		d.ExpectNoDial(time.Minute)

		// Asked for during an attempt that succeeds, it is void.
		d.conn.Reconnect()
		w, _ = d.accept("")
		d.conn.Reconnect()
		w.Send(server.Connack)
		synctest.Wait()
		w.Cut()
		d.ExpectNoDial(time.Minute)
		d.conn.Close()
		wantErr(t, "Reconnect after Close", d.conn.Reconnect(), mqtt.ErrClosed)
	})
}

// A peer that takes nothing does not hold up Reconnect.
func TestReconnectWithAPeerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		w.Stall(server.ToServer)
		for range 20 {
			d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 64<<10), QoS: 1})
		}
		synctest.Wait()
		began := time.Now()
		d.conn.Reconnect()
		d.up(server.Connack)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("reconnected after %v", took)
		}
	})
}

// Reconnect does not ask the error policy, which is about errors.
func TestReconnectIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithErrorPolicy(func(error) mqtt.Decision { return mqtt.DecideStop }))
		d.up(server.Connack)
		d.conn.Reconnect()
		d.up(server.Connack)
	})
}
