package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A server that accepts and cuts at once meets growing intervals; they
// start over only after a link was up for the set time.
func TestBackoffGrowsOverLinksThatFlap(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithBackoff(backoff.Exponential{NoJitter: true}), mqtt.WithStableAfter(10*time.Second))
		d.Timeout = time.Hour
		w := d.up(connack(v, false))
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 120, 120} {
			time.Sleep(100 * time.Millisecond)
			w.Cut()
			cut := time.Now()
			w = d.up(connack(v, false))
			if took := time.Since(cut); took != want*time.Second {
				t.Fatalf("reconnected after %v, want %v", took, want*time.Second)
			}
		}
		time.Sleep(10 * time.Second)
		w.Cut()
		cut := time.Now()
		d.up(connack(v, false))
		if took := time.Since(cut); took != time.Second {
			t.Errorf("reconnected after %v after a stable link, want 1 s", took)
		}
	})
}

// A takeover ends the Conn, unless the option says to go on.
func TestTakeoverEndsTheConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		d.up(server.Connack).Send(server.DisconnectTaken)
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrTakenOver)
		wantErr(t, "Closed", await[mqtt.Closed](t, d.conn.Events()).Err, mqtt.ErrTakenOver)
		wantErr(t, "a later publish", d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrClosed)
		d.ExpectNoDial(time.Hour)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithReconnectAfterTakeover())
		d.up(server.Connack).Send(server.DisconnectTaken)
		d.up(server.Connack)
	})
}

// The link dies k times within a moment of sending the same PUBLISH: it is
// set aside, its Future fails, its id stays taken, the others go on. With the
// session kept, and with the session lost each time.
func TestPublishThatEndsEveryLinkIsSetAside(t *testing.T) {
	for _, kept := range []bool{true, false} {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			if v == mqtt.V31 && !kept {
				return // the same as 3.1.1
			}
			var opts []mqtt.ConnectOption
			if kept {
				opts = append(opts, mqtt.WithSession(time.Hour))
			}
			var srv *server.Server
			links := 0
			conn, srv, _ := serve(t, v, server.Config{OnPacket: func(id string, p server.Packet) bool {
				if p.Type != codec.PUBLISH || !bytes.Contains(p.Body, []byte("poison")) {
					return false
				}
				links++
				srv.Cut(id)
				return true
			}}, opts...)
			time.Sleep(time.Minute)
			var futs []*mqtt.Future
			for _, p := range []string{"good", "poison", "better"} {
				futs = append(futs, conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(p), QoS: 1}))
			}
			eventually(t, "the poison is set aside", func() bool { return futs[2].Err() != mqtt.ErrPending })
			if links > 6 {
				t.Errorf("%d links died of it", links)
			}
			succeeded(t, futs[0])
			succeeded(t, futs[2])
			wantErr(t, "the poison's Future", futs[1].Err(), mqtt.ErrSetAside)
			if p, ok := errors.AsType[*mqtt.PublishError](futs[1].Err()); !ok || !p.MayHaveArrived {
				t.Errorf("%v does not say that the server may have it", futs[1].Err())
			}
			if ev := await[mqtt.PublishSetAside](t, conn.Events()); ev.Topic != "t" {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// An inbound message that makes us close the link each time it comes again
// ends the Conn after k links, with that error, when the option says so.
func TestInboundThatEndsEveryLinkEndsTheConn(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour), mqtt.WithEndOnFaultyMessage())
		for link := range 3 {
			w := d.up(connack(v, link > 0))
			b := rawPublish(v, 0x32, 7, "a/#", "x")
			w.SendBytes(b)
			w.Rest()
		}
		<-d.conn.Done()
		p, ok := errors.AsType[*mqtt.ProtocolError](d.conn.Err())
		if !ok {
			t.Fatalf("the Conn ended with %v", d.conn.Err())
		}
		if want := `"a/#"`; !containsText(p, want) {
			t.Errorf("%v does not name the topic bytes", p)
		}
		d.ExpectNoDial(time.Hour)
	})
}

// One rule for each context.
func TestContextsOfConnAndSubscription(t *testing.T) {
	t.Run("the connect timeout passes after success", connectTimeoutAfterSuccess)
	t.Run("the context of Connect ends during the first connect", firstConnectEndsWithItsContext)
	t.Run("a subscription's context ends", subscriptionEndsWithItsContext)
	for _, who := range []string{"one context", "parent of Connect's", "child of Connect's"} {
		t.Run("SIGTERM, durable session, "+who, func(t *testing.T) { sigtermWithAKeptSession(t, who) })
	}
	t.Run("a wait ends with its context alone", waitEndsWithItsContext)
}

func connectTimeoutAfterSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithConnectTimeout(2*time.Second))
		w := d.up(server.Connack)
		w.ExpectNothing(time.Minute)
		if s := d.conn.State(); s != mqtt.StateConnected {
			t.Errorf("state %v", s)
		}
	})
}

func firstConnectEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		server.NewPeer(t, &network)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := mqtt.Connect(ctx, "mqtt://server", mqtt.WithDialer(network.Dial))
		wantErr(t, "Connect", err, context.DeadlineExceeded)
		if !containsText(err, "WithConnectTimeout") {
			t.Errorf("%v does not name the option", err)
		}
	})
}

func subscriptionEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		w := d.up(server.Connack)
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := d.conn.Subscribe(ctx, "t", mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		w.Expect("82 09 0001 02 0B01 0001 74 01")
		w.Send("90 04 0001 00 01")
		synctest.Wait()
		cancel()
		w.Expect("A2 06 0002 00 0001 74")
		if _, open := <-sub.C(); open {
			t.Error("the channel is open")
		}
		wantErr(t, "Err", sub.Err(), context.Canceled)
		if s := d.conn.State(); s != mqtt.StateConnected {
			t.Errorf("the Conn is %v", s)
		}
	})
}

func sigtermWithAKeptSession(t *testing.T, who string) {
	synctest.Test(t, func(t *testing.T) {
		sigterm, cancel := context.WithCancel(t.Context())
		defer cancel()
		derived, cancelDerived := context.WithCancel(sigterm)
		defer cancelDerived()
		connCtx, subCtx := sigterm, sigterm
		switch who {
		case "parent of Connect's":
			connCtx = derived
		case "child of Connect's":
			subCtx = derived
		}
		d := dialURL(t, connCtx, "mqtt://server", mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour))
		w := d.up(server.Connack)
		sub, err := d.conn.Subscribe(subCtx, "t", mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		w.Expect("82 0C 0001 05 0B???????? 0001 74 01")
		w.Send("90 04 0001 00 01")
		synctest.Wait()
		cancel()
		// No UNSUBSCRIBE on the wire.
		w.Expect("E0 00")
		w.ExpectEOF()
		<-d.conn.Done()
		if _, open := <-sub.C(); open || sub.Err() == nil {
			t.Errorf("the subscription lives: %v", sub.Err())
		}
	})
}

func waitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, "Wait", fut.Wait(ctx), context.DeadlineExceeded)
		pending(t, fut)
		w.Expect("32 06 0001 74 0001 00")
		w.Send("40 02 0001")
		succeeded(t, fut)
	})
}
