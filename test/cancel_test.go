package mqtt_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A context that ends before the message is accepted: nothing is ever sent,
// and the error is the context's cause.
func TestCanceledBeforeAcceptance(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithQueue(1, 0, mqtt.QueueWait))
		first := s.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		s.expectPublish(0x32, 1, "a", "")

		why := errors.New("lost interest")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		f := s.conn.Publish(ctx, mqtt.Message{Topic: "b", QoS: 1})
		if err := f.Err(); !errors.Is(err, why) {
			t.Fatalf("%v", err)
		}
		if err := s.conn.Publish(ctx, mqtt.Message{Topic: "c"}).Err(); !errors.Is(err, why) {
			t.Fatalf("published under a context that had ended: %v", err)
		}
		s.sendAck(0x40, 1)
		succeeded(t, first)
		s.ExpectNothing(time.Minute)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "d", QoS: 1})
		s.expectPublish(0x32, 2, "d", "") // no identifier was spent
	})
}

// A context that ends after acceptance ends only the wait.
func TestCanceledAfterAcceptance(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		ctx, cancel := context.WithCancel(t.Context())
		f := s.conn.Publish(ctx, mqtt.Message{Topic: "t", QoS: 2})
		s.expectPublish(0x34, 1, "t", "")
		cancel()
		if err := f.Wait(ctx); err != context.Canceled {
			t.Errorf("Wait: %v", err)
		}
		if err := mqtt.WaitAll(ctx, f, f); !errors.Is(err, context.Canceled) {
			t.Errorf("WaitAll: %v", err)
		}
		pending(t, f)
		s.finishPublish(2, 1)
		succeeded(t, f)
		if err := f.Wait(ctx); err != nil {
			t.Errorf("Wait on a resolved Future with a context that has ended: %v", err)
		}
	})
}

// However often contexts end, the window keeps its size.
func TestWindowKeepsItsSizeOverCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window = 4
		conn, srv, _ := serve(t, mqtt.V5, server.Config{
			OnAck: func(a server.Ack) server.Fate {
				return server.Fate{Delay: time.Duration(a.PacketID%7) * time.Millisecond}
			},
		}, mqtt.WithMaxInflight(window), mqtt.WithQueue(2*window, 0, mqtt.QueueWait))
		rng := chance.Rand(t)
		for range chance.Rounds(1000, 100_000) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(3000))*time.Microsecond)
			f := conn.Publish(ctx, mqtt.Message{Topic: "t", QoS: mqtt.QoS(rng.IntN(3))})
			switch rng.IntN(4) {
			case 0:
				f.Cancel()
			case 1:
				f.Wait(ctx)
			}
			cancel()
		}
		flush(t, conn)
		if s := conn.Stats(); s.Inflight != 0 || s.Queued != 0 || s.QueuedBytes != 0 {
			t.Errorf("left behind: %+v", s)
		}
		srv.Change(func(c *server.Config) { c.OnAck = func(server.Ack) server.Fate { return server.Fate{Withhold: true} } })
		before := len(srv.Received())
		for range 2 * window {
			conn.TryPublish(mqtt.Message{Topic: "t", QoS: 1})
		}
		synctest.Wait()
		if n := len(srv.Received()) - before; n != window {
			t.Errorf("%d publishes in flight, the window is %d", n, window)
		}
	})
}
