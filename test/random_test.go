package mqtt_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Connect, Publish, Subscribe, Close, cancel, cuts and refusals at random
// from 8 goroutines: no panic, no race, no goroutine left after Close, Close is
// idempotent, calls after it return ErrClosed. The bubble fails when a goroutine
// stays behind or when all of them wait for ever.
func TestRandomLifecycle(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(chance.Rounds(1000, 100_000)) {
		if ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomLife(t, chance.Stream(seed, round)) })
		}); !ok {
			t.Fatalf("round %d", round)
		}
	}
}

// randomLife lives one Conn through 8 goroutines that do as they please.
func randomLife(t *testing.T, rnd *rand.Rand) {
	network := &server.Network{BufferSize: 4 << 10}
	srv := server.Start(network, server.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	version := versions[rnd.IntN(3)]
	opts := []mqtt.ConnectOption{
		mqtt.WithDialer(network.Dial), mqtt.WithClientID("c"), mqtt.WithVersions(version),
		mqtt.WithBackoff(steady(time.Duration(rnd.IntN(1000)) * time.Millisecond)), mqtt.WithKeepAlive(2 * time.Second),
		mqtt.WithFirstConnect(mqtt.FirstConnect(rnd.IntN(3))), mqtt.WithCloseTimeout(time.Second),
		mqtt.WithMaxInflight(1 + rnd.IntN(20)), mqtt.WithQueue(1+rnd.IntN(50), 0, mqtt.QueuePolicy(rnd.IntN(4))),
		mqtt.WithSubscription("s", mqtt.WithBuffer(rnd.IntN(3))),
	}
	if rnd.IntN(2) == 0 {
		opts = append(opts, mqtt.WithSession(time.Hour))
	}
	if rnd.IntN(4) == 0 {
		network.RefuseDials(rnd.IntN(3), nil)
	}
	conn, err := mqtt.Connect(ctx, "mqtt://server", opts...)
	if err != nil {
		srv.Close()
		return // no goroutine may stay behind here either
	}
	var all sync.WaitGroup
	for g := range 8 {
		own := chance.Stream(rnd.Uint64(), uint64(g))
		all.Go(func() {
			for range 12 {
				randomStep(t.Context(), own, conn, srv, network, cancel)
				if own.IntN(2) == 0 {
					time.Sleep(time.Duration(own.IntN(300)) * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	closing := make(chan struct{})
	for range 2 {
		go func() { conn.Close(); closing <- struct{}{} }()
	}
	<-closing
	<-closing
	if conn.Err() == nil || conn.State() != mqtt.StateClosed {
		t.Errorf("after Close: %v, state %v", conn.Err(), conn.State())
	}
	wantErr(t, "Publish after Close", conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrClosed)
	_, err = conn.Subscribe(t.Context(), "t")
	wantErr(t, "Subscribe after Close", err, mqtt.ErrClosed)
	srv.Close()
	for _, v := range srv.Violations() {
		// 3.1 does not tell the client that the server lost the session.
		if version != mqtt.V31 || !strings.Contains(v, "DUP at its first sending") {
			t.Errorf("MQTT %v: %s", version, v)
		}
	}
}

// randomStep does one thing to the Conn, its server or the network.
func randomStep(ctx context.Context, rnd *rand.Rand, conn *mqtt.Conn, srv *server.Server, network *server.Network, cancel context.CancelFunc) {
	short, done := context.WithTimeout(ctx, time.Duration(rnd.IntN(500))*time.Millisecond)
	switch n := rnd.IntN(100); {
	case n < 30:
		f := conn.Publish(short, mqtt.Message{Topic: fmt.Sprint("p", rnd.IntN(3)), Payload: make([]byte, rnd.IntN(2000)), QoS: mqtt.QoS(rnd.IntN(3))})
		switch rnd.IntN(4) {
		case 0:
			f.Wait(short)
		case 1:
			f.Cancel()
		}
	case n < 50:
		randomSubscriber(short, rnd, conn)
	case n < 60:
		srv.Publish("s", []byte("x"), byte(rnd.IntN(3)), rnd.IntN(2) == 0)
	case n < 87:
		randomTrouble(n, rnd, srv, network)
	case n < 90:
		conn.Reconnect()
	case n < 92:
		conn.Flush(short)
	case n < 94:
		conn.Stats()
		for range conn.Watch(short) {
			break
		}
	case n < 96:
		conn.WaitConnected(short)
	case n < 97:
		go conn.Close()
	case n < 98:
		go conn.Disconnect(short)
	case n < 99:
		go conn.Drain(short)
	default:
		if rnd.IntN(2) == 0 {
			cancel()
		} else {
			go conn.Abort()
		}
	}
	if rnd.IntN(2) == 0 {
		done()
	} else {
		time.AfterFunc(time.Second, done)
	}
}

// randomTrouble is what the server and the network do to the Conn; n is below 87.
func randomTrouble(n int, rnd *rand.Rand, srv *server.Server, network *server.Network) {
	switch {
	case n < 68:
		srv.Cut("c")
	case n < 72:
		if l := network.Last(); l != nil {
			l.CutAfter(server.Both, int64(rnd.IntN(100)))
		}
	case n < 75:
		if l := network.Last(); l != nil {
			l.Stall(server.Both)
		}
	case n < 78:
		srv.RefuseConnects(1, 0x89)
	case n < 81:
		srv.DropSession("c")
	case n < 84:
		srv.Restart(rnd.IntN(2) == 0)
	case n < 87:
		network.RefuseDials(rnd.IntN(3), nil)
	}
}

// randomSubscriber subscribes, reads in one form or not at all, and ends.
func randomSubscriber(ctx context.Context, rnd *rand.Rand, conn *mqtt.Conn) {
	opts := []mqtt.SubscribeOption{mqtt.QoS(rnd.IntN(3)), mqtt.WithBuffer(rnd.IntN(3))}
	if rnd.IntN(2) == 0 {
		opts = append(opts, mqtt.WithoutWaiting())
	}
	sub, err := conn.Subscribe(ctx, []string{"s", "p0", "p1", "#"}[rnd.IntN(4)], opts...)
	if err != nil {
		return
	}
	switch rnd.IntN(4) {
	case 0:
		select {
		case <-sub.C():
		case <-ctx.Done():
		}
	case 1:
		sub.Handle(func(mqtt.Message) {})
	case 2:
		sub.Bind()
	}
	if rnd.IntN(2) == 0 {
		sub.Unsubscribe(ctx)
	}
}
