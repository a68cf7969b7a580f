package mqtt_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// With every buffer full (a peer that does not read, subscriptions that
// nobody reads, the window and the queue full, publishers waiting), the failure
// of the link, Close and the end of the context end everything within a bound.
// The bubble fails when a goroutine stays behind.
func TestEverythingFullAndThenTheEnd(t *testing.T) {
	for _, v := range versions {
		for _, how := range []string{"cut", "Close", "context", "Abort", "Drain"} {
			t.Run(v.String()+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fullAndEnd(t, v, how) })
			})
		}
	}
}

func fullAndEnd(t *testing.T, v mqtt.Version, how string) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := dialURL(t, ctx, "mqtt://server", mqtt.WithVersions(v), mqtt.WithMaxInflight(10), mqtt.WithQueue(100, 0, mqtt.QueueWait),
		mqtt.WithReceiveMaximum(20), mqtt.WithCatchAll(mqtt.WithBuffer(1)),
		mqtt.WithSubscription("a", mqtt.WithBuffer(1), mqtt.WithPendingLimit(4, 0)),
		mqtt.WithSubscription("b", mqtt.WithBuffer(1), mqtt.WithPendingLimit(4, 0), mqtt.WithSlowPolicy(mqtt.SlowBlock)))
	d.conn.Subscription("a").C()
	d.conn.CatchAll().C()
	body := make(chan struct{})
	d.conn.Subscription("b").Handle(func(mqtt.Message) { <-body })
	w := d.up(connack(v, false))
	w.Stall(server.ToServer)

	// Fill the inbound side: until the reader is paused by "block".
	for id := range uint16(18) {
		topic := []string{"a", "b", "c"}[id%3]
		w.SendBytes(rawPublish(v, 0x32, id+1, topic, "x"))
		w.SendBytes(rawPublish(v, 0x30, 0, topic, "x"))
	}
	// And the outbound side: until publishers wait.
	var futures [50]*mqtt.Future
	var waiting atomic.Int32
	for i := range futures {
		waiting.Add(1)
		go func() {
			futures[i] = publishLarge(t, d.conn, mqtt.QoS(i%3))
			waiting.Add(-1)
		}()
	}
	for i := range 10 {
		go d.conn.Subscribe(t.Context(), fmt.Sprint("s", i))
	}
	synctest.Wait()
	if waiting.Load() == 0 {
		t.Fatal("no publisher waits: the buffers are not full")
	}
	within(t, 10*time.Second, how, func() {
		if how == "cut" {
			w.Cut()
			await[mqtt.Disconnected](t, d.conn.Events())
			d.up(connack(v, false)) // and the Conn goes on
		}
		endBy(t, how, d.conn, cancel)
		<-d.conn.Done()
	})
	close(body)
	synctest.Wait()
	if n := waiting.Load(); n != 0 {
		t.Errorf("%d publishers still wait", n)
	}
	for _, f := range futures {
		if f.Err() == mqtt.ErrPending {
			t.Error("a Future is pending after the end")
		}
	}
}

// publishLarge publishes five messages of 64 KiB, and returns the Future of the first.
func publishLarge(t *testing.T, conn *mqtt.Conn, qos mqtt.QoS) *mqtt.Future {
	large := mqtt.Message{Topic: "p", Payload: make([]byte, 64<<10), QoS: qos}
	first := conn.Publish(t.Context(), large)
	for range 4 {
		conn.Publish(t.Context(), large)
	}
	return first
}

// endBy ends conn by the call, or the end of its context, that how names; by Abort
// after a cut.
func endBy(t *testing.T, how string, conn *mqtt.Conn, cancel context.CancelFunc) {
	switch how {
	case "cut", "Abort":
		conn.Abort()
	case "Close":
		conn.Close()
	case "context":
		cancel()
	case "Drain":
		short, done := context.WithTimeout(t.Context(), 3*time.Second)
		defer done()
		conn.Drain(short)
	}
}

// A consumer that publishes and subscribes for each message it gets makes
// progress, at many times the window, over cuts of the link.
func TestConsumerThatPublishesAndSubscribes(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		const messages = 200
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithMaxInflight(2), mqtt.WithSession(time.Hour),
			mqtt.WithSubscription("in", mqtt.QoS(2), mqtt.WithBuffer(1)))
		in := conn.Subscription("in").C()
		eventually(t, "the subscription is granted", func() bool {
			info, _ := srv.Session("c")
			return len(info.Subscriptions) == 1
		})
		go func() {
			for i := range messages {
				srv.Publish("in", []byte{byte(i)}, 2, false)
				if i%50 == 25 {
					time.Sleep(3 * time.Second)
					srv.Cut("c")
				}
			}
		}()
		for i := range messages {
			m := <-in
			if m.Payload[0] != byte(i) {
				t.Fatalf("message %d where %d should be", m.Payload[0], i)
			}
			succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: "out", Payload: m.Payload, QoS: 2}))
			sub, err := conn.Subscribe(t.Context(), fmt.Sprint("other/", i%7))
			if err != nil {
				t.Fatal(err)
			}
			if err := sub.Unsubscribe(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(srv.Received()); n != messages {
			t.Errorf("the server has %d messages, want %d", n, messages)
		}
	})
}
