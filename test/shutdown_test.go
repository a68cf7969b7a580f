package mqtt_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Disconnect refuses new publishes, lets pending ones finish, sends DISCONNECT 0x00
// and closes.
func TestDisconnectLetsPendingFinish(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v))
		w := d.up(connack(v, false))
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		done := make(chan error, 1)
		go func() { done <- d.conn.Disconnect(t.Context()) }()
		synctest.Wait()
		if s := d.conn.State(); s != mqtt.StateClosing {
			t.Errorf("state %v, want closing", s)
		}
		wantErr(t, "a publish while closing", d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrClosed)
		w.ExpectNothing(time.Hour)
		w.Send("40 02 0001")
		w.Expect("E0 00")
		w.ExpectEOF()
		if err := <-done; err != nil {
			t.Errorf("Disconnect: %v", err)
		}
		succeeded(t, fut)
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrClosed)
	})
}

// When the context ends first, what is pending fails, and DISCONNECT is
// sent all the same.
func TestDisconnectWithinItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithMaxInflight(1))
		w := d.up(server.Connack)
		sent := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		queued := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		within(t, 3*time.Second, "Disconnect", func() {
			wantErr(t, "Disconnect", d.conn.Disconnect(ctx), context.DeadlineExceeded)
		})
		w.Expect("E0 00")
		w.ExpectEOF()
		for _, f := range []*mqtt.Future{sent, queued} {
			wantErr(t, "a pending publish", f.Err(), mqtt.ErrClosed)
			if p, ok := errors.AsType[*mqtt.PublishError](f.Err()); !ok || p.MayHaveArrived != (f == sent) {
				t.Errorf("%v", f.Err())
			}
		}
	})
}

// Close is Disconnect within its timeout, idempotent, and says what it left.
func TestCloseIsABoundedDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		within(t, 5*time.Second, "Close", func() { wantErr(t, "Close", d.conn.Close(), context.DeadlineExceeded) })
		w.Expect("E0 00")
		within(t, 0, "a second Close", func() { wantErr(t, "a second Close", d.conn.Close(), nil) })
		afterClose(t, d.conn)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		go closeAfterDisconnect(w)
		within(t, 0, "Close of an idle Conn", func() { wantErr(t, "Close", d.conn.Close(), nil) })
	})
}

// closeAfterDisconnect does what a server does at a DISCONNECT, the next packet.
func closeAfterDisconnect(w *server.Wire) {
	w.Expect("E0 00")
	w.Close()
}

// afterClose checks that calls after the end return at once and say ErrClosed.
func afterClose(t *testing.T, conn *mqtt.Conn) {
	t.Helper()
	ctx := t.Context()
	within(t, 0, "calls after the end", func() {
		wantErr(t, "Publish", conn.Publish(ctx, mqtt.Message{Topic: "t", QoS: 1}).Err(), mqtt.ErrClosed)
		wantErr(t, "TryPublish", conn.TryPublish(mqtt.Message{Topic: "t"}).Err(), mqtt.ErrClosed)
		_, err := conn.Subscribe(ctx, "t")
		wantErr(t, "Subscribe", err, mqtt.ErrClosed)
		_, err = conn.Unsubscribe(ctx, "t")
		wantErr(t, "Unsubscribe", err, mqtt.ErrClosed)
		wantErr(t, "WaitConnected", conn.WaitConnected(ctx), mqtt.ErrClosed)
		wantErr(t, "Reconnect", conn.Reconnect(), mqtt.ErrClosed)
		wantErr(t, "Flush", conn.Flush(ctx), nil)
		wantErr(t, "Err", conn.Err(), mqtt.ErrClosed)
		for range conn.CatchAll().C() {
			t.Error("a message after the end")
		}
		conn.Abort()
		conn.Disconnect(ctx)
		conn.Drain(ctx)
		if s := conn.State(); s != mqtt.StateClosed {
			t.Errorf("state %v", s)
		}
		conn.Stats()
	})
}

// The least patient caller sets how long the end may take: a Close, or the end
// of Connect's context, during a Disconnect without a limit.
func TestLeastPatientCallerEndsTheConn(t *testing.T) {
	for _, how := range []string{"Close", "context", "Abort"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				d := dialURL(t, ctx, "mqtt://server")
				w := d.up(server.Connack)
				d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
				w.ExpectPacket()
				first := make(chan error, 1)
				go func() { first <- d.conn.Disconnect(t.Context()) }()
				time.Sleep(time.Hour)
				within(t, 5*time.Second, how, func() {
					switch how {
					case "Close":
						d.conn.Close()
					case "context":
						cancel()
					case "Abort":
						d.conn.Abort()
					}
					<-d.conn.Done()
				})
				if err := <-first; err == nil {
					t.Error("the patient Disconnect says that everything was finished")
				}
				rest := w.Rest()
				if want := how != "Abort"; (len(rest) == 2 && rest[0] == 0xE0) != want {
					t.Errorf("the last bytes were % X", rest)
				}
			})
		})
	}
}

// Without a link nothing is waited for, and what was pending says so.
func TestDisconnectWithoutALinkEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		d.up(server.Connack).Cut()
		d.net.RefuseDials(-1, nil)
		await[mqtt.Retrying](t, d.conn.Events())
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		within(t, 0, "Disconnect", func() {
			wantErr(t, "Disconnect", d.conn.Disconnect(t.Context()), mqtt.ErrNotConnected)
		})
		wantErr(t, "the pending publish", fut.Err(), mqtt.ErrClosed)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		done := make(chan error, 1)
		go func() { done <- d.conn.Disconnect(t.Context()) }()
		synctest.Wait()
		w.Cut()
		wantErr(t, "Disconnect over a link that was cut", <-done, mqtt.ErrLinkLost)
		wantErr(t, "the pending publish", fut.Err(), mqtt.ErrClosed)
		d.ExpectNoDial(time.Hour)
	})
}

// The end of Connect's context is a graceful close within a short grace,
// with DISCONNECT, so that no will is published.
func TestEndOfTheContextIsGraceful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d := dialURL(t, ctx, "mqtt://server")
		w := d.up(server.Connack)
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		<-ctx.Done()
		w.ExpectNothing(700 * time.Millisecond)
		w.Send("40 02 0001")
		w.Expect("E0 00")
		w.ExpectEOF()
		succeeded(t, fut)
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), context.DeadlineExceeded)
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrClosed)
		if s := d.conn.Err().Error(); !strings.Contains(s, "context given to Connect") || !strings.Contains(s, "WithConnectTimeout") {
			t.Errorf("Err says %q", s)
		}
		wantErr(t, "Closed", await[mqtt.Closed](t, d.conn.Events()).Err, context.DeadlineExceeded)
		wantErr(t, "a later publish", d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrClosed)
	})
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		d := dialURL(t, ctx, "mqtt://server")
		w := d.up(server.Connack)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.ExpectPacket()
		cancel(cause)
		within(t, time.Second, "the grace", func() { <-d.conn.Done() })
		w.Expect("E0 00")
		wantErr(t, "Err keeps the cause", d.conn.Err(), cause)
	})
}

// Abort drops the socket: the will is published.
func TestAbortSendsNoDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		within(t, 0, "Abort", d.conn.Abort)
		w.ExpectEOF()
		afterClose(t, d.conn)
	})
}

// A reason of one's own, and a last message before it [MQTT-3.14.2-1].
func TestDisconnectWithReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		w := d.up(server.Connack)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"})
		d.conn.Disconnect(t.Context(), mqtt.WithReason(codec.DisconnectWithWill), mqtt.WithReasonString("no"))
		w.Expect("30 04 0001 74 00")
		w.Expect("E0 07 04 05 1F 0002 6E6F")
		w.ExpectEOF()
	})
	for code := range 256 {
		allowed := code == 0 || code == 4 || code >= 0x80 && code <= 0x83 || code == 0x90 || code >= 0x93 && code <= 0x99
		d := mqtt.WithReason(codec.ReasonCode(code))
		synctest.Test(t, func(t *testing.T) {
			c := dial(t, mqtt.WithVersions(mqtt.V5))
			c.up(server.Connack)
			err := c.conn.Disconnect(t.Context(), d)
			if allowed != (err == nil) {
				t.Errorf("code %02X: %v", code, err)
			}
			if !allowed && (!errors.Is(err, mqtt.ErrInvalid) || c.conn.State() != mqtt.StateConnected) {
				t.Errorf("code %02X: %v in state %v", code, err, c.conn.State())
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		// [MQTT-3.14.2-3]: a text that does not fit is left out.
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		w := d.up("20 08 00 00 05 27 0000000A")
		d.conn.Disconnect(t.Context(), mqtt.WithReason(codec.DisconnectWithWill), mqtt.WithReasonString("far too long a text"))
		w.Expect("E0 01 04")
		w.ExpectEOF()
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V311))
		d.up(server.Connack3)
		err := d.conn.Disconnect(t.Context(), mqtt.WithReason(codec.DisconnectWithWill))
		wantErr(t, "a reason on 3.1.1", err, mqtt.ErrNotSupported)
	})
}

// Messages in a channel are readable after Close; with a durable session,
// what was not handed over is neither delivered nor acknowledged.
func TestKeptSessionKeepsUndeliveredMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour), mqtt.WithSubscription("t", mqtt.WithBuffer(2)))
		ch := d.conn.Subscription("t").C()
		w := d.up(server.Connack)
		w.Expect("82 0C 0001 05 0B???????? 0001 74 01")
		w.Send("90 04 0001 00 01")
		for id := range byte(5) {
			w.SendBytes([]byte{0x32, 6, 0, 1, 't', 0, id + 1, 0})
		}
		w.Expect("40 02 0001 40 02 0002")
		synctest.Wait()
		d.conn.Close()
		w.Expect("E0 00")
		w.ExpectEOF()
		n := 0
		for range ch {
			n++
		}
		if n != 2 {
			t.Errorf("%d messages after Close, want the 2 that were in the channel", n)
		}
	})
}

// Drain: what arrives is neither handed over nor acknowledged, what is here is
// handed over and acknowledged, publishes go on; then DISCONNECT.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour), mqtt.WithSubscription("t", mqtt.WithManualAck(), mqtt.WithBuffer(1)))
		ch := d.conn.Subscription("t").C()
		w := d.up(server.Connack)
		w.Expect("82 0C 0001 05 0B???????? 0001 74 01")
		w.Send("90 04 0001 00 01")
		for id := range byte(3) {
			w.SendBytes([]byte{0x32, 6, 0, 1, 't', 0, id + 1, 0})
		}
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- d.conn.Drain(t.Context()) }()
		synctest.Wait()
		w.SendBytes([]byte{0x32, 6, 0, 1, 't', 0, 9, 0})
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
		w.Expect("32 06 0001 70 0002 00")
		w.Send("40 02 0002")
		succeeded(t, fut)
		var last mqtt.Message
		for id := range byte(3) {
			last = <-ch
			if id < 2 {
				last.Ack()
				w.ExpectBytes([]byte{0x40, 2, 0, id + 1})
			}
		}
		w.ExpectNothing(time.Minute) // the last one is with the application
		last.Ack()
		w.Expect("40 02 0003")
		w.Expect("E0 00")
		w.ExpectEOF()
		if err := <-done; err != nil {
			t.Errorf("Drain: %v", err)
		}
		if m, open := <-ch; open {
			t.Errorf("message %d handed over after Drain began", m.QoS)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSubscription("t", mqtt.WithBuffer(0)))
			d.conn.Subscription("t").C()
			w := d.up(server.Connack)
			w.ExpectPacket()
			w.Send("32 06 0001 74 0001 00")
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			within(t, 3*time.Second, "Drain", func() { d.conn.Drain(ctx) })
			w.Expect("E0 00")
			w.ExpectEOF()
		})
	})
}

// Flush waits for what was accepted before it, at every QoS, and no longer.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithQueuedQoS0(), mqtt.WithMaxInflight(1))
		var before []*mqtt.Future
		for qos := range mqtt.QoS(3) {
			before = append(before, d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: qos}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "Flush without a link", d.conn.Flush(ctx), context.DeadlineExceeded)
		w := d.up(server.Connack)
		done := make(chan error, 1)
		go func() { done <- d.conn.Flush(t.Context()) }()
		synctest.Wait()
		after := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		w.Expect("30 04 0001 74 00 32 06 0001 74 0001 00")
		w.Send("40 02 0001")
		w.Expect("34 06 0001 74 0002 00")
		w.Send("50 02 0002")
		w.Expect("62 02 0002")
		synctest.Wait()
		select {
		case <-done:
			t.Error("Flush returned before PUBCOMP")
		default:
		}
		w.Send("70 02 0002")
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.Expect("32 06 0001 74 0003 00")
		for _, f := range before {
			succeeded(t, f)
		}
		pending(t, after)
	})
}

// A handler may end the Conn: the end does not wait for it there.
func TestCloseInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSubscription("t"))
		closed := make(chan error, 1)
		d.conn.Subscription("t").Handle(func(mqtt.Message) { closed <- d.conn.Close() })
		w := d.up(server.Connack)
		w.ExpectPacket()
		go closeAfterDisconnect(w)
		w.Send("30 04 0001 74 00")
		within(t, 0, "Close in a handler", func() { <-closed })
	})
}
