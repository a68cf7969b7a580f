package mqtt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// stalledLine is a Conn whose line takes nothing at the moment, and the messages of 1 KiB
// that it accepts at QoS 0 without waiting, but for the context.
func stalledLine(t *testing.T, opts ...mqtt.ConnectOption) (conn *mqtt.Conn, network *server.Network, line *server.Link, publish func(ctx context.Context) error) {
	t.Helper()
	network = &server.Network{}
	srv := server.Start(network, server.Config{})
	t.Cleanup(func() { srv.Close() })
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", append(opts, mqtt.WithDialer(network.Dial), mqtt.WithKeepAlive(-1))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Abort)
	line = network.Last()
	line.Stall(server.ToServer)
	n := 0
	return conn, network, line, func(ctx context.Context) error {
		payload := make([]byte, 1<<10)
		binary.BigEndian.PutUint64(payload, uint64(n))
		n++
		f := conn.Publish(ctx, mqtt.Message{Topic: "t", Payload: payload})
		if err := f.Err(); err != mqtt.ErrPending {
			return err
		}
		return nil
	}
}

// Whoever publishes QoS 0 faster than the line takes it waits: a little more than 512 KiB are
// accepted, the rest when there is room, in order and nothing left out.
func TestPublishAtQoS0WaitsForTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, network, line, publish := stalledLine(t)
		watcher, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
		if err != nil {
			t.Fatal(err)
		}
		defer watcher.Close()
		sub := subscribe(t, watcher, "t", mqtt.WithPendingLimit(-1, -1))
		const messages = 5_000
		accepted := make(chan int, messages)
		go func() { // ends with the last message
			for n := range messages {
				if err := publish(t.Context()); err != nil {
					t.Error(err)
				}
				accepted <- n
			}
			close(accepted)
		}()
		synctest.Wait()
		time.Sleep(time.Minute)
		if n := len(accepted); n < 512 || n > 2_500 {
			t.Errorf("%d messages of 1 KiB were accepted", n)
		}
		// The others do not wait for that line.
		if f := conn.TryPublish(mqtt.Message{Topic: "q", Payload: []byte("x")}); f.Err() != mqtt.ErrPending {
			t.Errorf("TryPublish: %v", f.Err())
		}
		if f := conn.Publish(t.Context(), mqtt.Message{Topic: "q", QoS: 1}); f.Err() != mqtt.ErrPending {
			t.Errorf("QoS 1: %v", f.Err())
		}
		line.Resume(server.ToServer)
		for n := range messages {
			if m := take(t, sub.C()); binary.BigEndian.Uint64(m.Payload) != uint64(n) {
				t.Fatalf("message %d came as the %d.", binary.BigEndian.Uint64(m.Payload), n)
			}
		}
	})
}

// The wait for the line ends with its context, the expiry of the message, the link and the
// Conn, each with its error.
func TestEndsOfTheWaitForTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _, line, publish := stalledLine(t)
		for range 3_000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			err := publish(ctx)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if f := conn.Publish(t.Context(), mqtt.Message{Topic: "t", Properties: &mqtt.Properties{Expiry: 3 * time.Second}}); !errors.Is(f.Err(), mqtt.ErrExpired) || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(began), f.Err())
		}
		ends := make(chan error, 2)
		wait := func() { ends <- publish(t.Context()) }
		go wait()
		synctest.Wait()
		line.Cut()
		if err := <-ends; !errors.Is(err, mqtt.ErrNotConnected) {
			t.Errorf("the link ended: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		conn, _, _, publish := stalledLine(t)
		ended := make(chan error, 1)
		go func() { // ends with the Conn
			for {
				if err := publish(t.Context()); err != nil {
					ended <- err
					return
				}
			}
		}()
		synctest.Wait()
		go conn.Close()
		if err := <-ended; !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("the Conn ended: %v", err)
		}
	})
}

// Without a link QoS 0 that an option queues keeps to the limits of the queue, and so does
// every policy but QueueWait.
func TestOtherPoliciesDoNotWaitForTheLine(t *testing.T) {
	for _, policy := range []mqtt.QueuePolicy{mqtt.QueueFail, mqtt.QueueDropNewest, mqtt.QueueDropOldest} {
		synctest.Test(t, func(t *testing.T) {
			_, _, _, publish := stalledLine(t, mqtt.WithQueue(10_000, 0, policy))
			began := time.Now()
			for range 5_000 {
				if err := publish(t.Context()); err != nil {
					t.Fatalf("%v: %v", policy, err)
				}
			}
			if time.Since(began) > 0 {
				t.Errorf("%v waited", policy)
			}
		})
	}
}
