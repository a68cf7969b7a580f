package mqtt_test

// Tests for rows of docs/paho.md that no behaviour or clause has one for.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// reinitialise(): a new Connect carries nothing over from an ended Conn.
func TestNewConnIsFresh(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		old, srv, network := serve(t, v, server.Config{})
		if _, err := old.Subscribe(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		fresh, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(network.Dial))
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		if s, ok := srv.Session("c"); !ok || len(s.Subscriptions) > 0 || fresh.Stats().Published > 0 {
			t.Errorf("session %+v, found %t", s, ok)
		}
		if err := old.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(); !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("publish on the ended Conn: %v", err)
		}
	})
}

// max_queued_messages_set: what each policy does with the third message when
// the queue takes two.
func TestQueuePolicies(t *testing.T) {
	for _, tt := range []struct {
		policy mqtt.QueuePolicy
		want   [3]error // nil: it arrives when there is a link
	}{
		{mqtt.QueueFail, [3]error{nil, nil, mqtt.ErrQueueFull}},
		{mqtt.QueueDropNewest, [3]error{nil, nil, mqtt.ErrDropped}},
		{mqtt.QueueDropOldest, [3]error{mqtt.ErrDropped, nil, nil}},
		{mqtt.QueueWait, [3]error{nil, nil, mqtt.ErrQueueFull}}, // of TryPublish
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, srv, network := serve(t, mqtt.V5, server.Config{}, mqtt.WithQueue(2, 0, tt.policy))
				network.OnDial(func(int, string) error { return errors.New("away") })
				srv.Cut("c")
				synctest.Wait()
				var futures [3]*mqtt.Future
				for i := range futures {
					futures[i] = conn.TryPublish(mqtt.Message{Topic: fmt.Sprint(i), QoS: 1})
				}
				network.OnDial(nil)
				for i, f := range futures {
					if err := f.Wait(t.Context()); !errors.Is(err, tt.want[i]) {
						t.Errorf("message %d: %v, want %v", i, err, tt.want[i])
					}
				}
			})
		})
	}
}

// message_retry_set: nothing is sent again on a live link; an ack timeout ends
// the link, and the message goes again on the next.
func TestAckTimeoutEndsTheLink(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithAckTimeout(4*time.Second), mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 1})
		s.expectPublish(0x32, f.PacketID(), "t", "x")
		s.ExpectEOF() // and nothing before it
		s.next(connack(v, true))
		s.expectPublish(0x3A, f.PacketID(), "t", "x")
		s.sendAck(0x40, f.PacketID())
		succeeded(t, f)
	})
}

// enable_logger: each Conn logs to its own logger, with client identifier and
// link, and no secret.
func TestEachConnHasItsLogger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		logger := slog.New(slog.NewTextHandler(&out, nil))
		conn, _, _ := serve(t, mqtt.V5, server.Config{}, mqtt.WithLogger(logger), mqtt.WithCredentials("user", "secret"))
		conn.Close()
		text := out.String()
		if !strings.Contains(text, "client=c") || !strings.Contains(text, "link=1") || strings.Contains(text, "secret") {
			t.Errorf("the log:\n%s", text)
		}
	})
}

// username_pw_set: a function gives the credentials of every attempt.
func TestCredentialsForEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		passwords := make(chan string, 10)
		cfg := server.Config{OnConnect: func(c *codec.Connect) (codec.ReasonCode, *codec.Properties) {
			passwords <- c.Username + "/" + string(c.Password)
			return codec.Success, nil
		}}
		conn, srv, _ := serve(t, mqtt.V311, cfg, mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) {
			n++
			user := "user"
			return mqtt.Credentials{Username: &user, Password: fmt.Append(nil, "token ", n)}, nil
		}))
		srv.Cut("c")
		synctest.Wait()
		if err := conn.WaitConnected(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := <-passwords, <-passwords; a != "user/token 1" || b != "user/token 2" {
			t.Errorf("got %q, then %q", a, b)
		}
	})
}

// will_set: the server publishes it after Abort, and not after Close.
func TestWillAfterAbortNotAfterClose(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		watcher, _, network := serve(t, v, server.Config{}, mqtt.WithClientID("watcher"))
		wills, err := watcher.Subscribe(t.Context(), "will/#")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"closed", "aborted"} {
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(v), mqtt.WithDialer(network.Dial),
				mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "will/" + name, QoS: 1}}))
			if err != nil {
				t.Fatal(err)
			}
			if name == "closed" {
				conn.Close()
			} else {
				conn.Abort()
			}
		}
		if m := <-wills.C(); m.Topic != "will/aborted" {
			t.Errorf("the will of %s was published", m.Topic)
		}
	})
}

// connect_async and loop_forever(retry_first_connection): Connect returns at
// once, or waits until an attempt succeeds; Done and Err are the end of the loop.
func TestFirstConnect(t *testing.T) {
	for name, first := range map[string]mqtt.FirstConnect{"background": mqtt.FirstConnectBackground, "retry": mqtt.FirstConnectRetry} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				srv := server.Start(&network, server.Config{})
				defer srv.Close()
				network.OnDial(func(int, string) error { return errors.New("not yet") })
				begin := time.Now()
				time.AfterFunc(time.Minute, func() { network.OnDial(nil) })
				conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial),
					mqtt.WithFirstConnect(first), mqtt.WithBackoff(steady(time.Second)))
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(begin) >= time.Minute; waited != (first == mqtt.FirstConnectRetry) {
					t.Errorf("Connect returned after %v", time.Since(begin))
				}
				if err := conn.WaitConnected(t.Context()); err != nil {
					t.Error(err)
				}
				conn.Close()
				<-conn.Done()
				if err := conn.Err(); !errors.Is(err, mqtt.ErrClosed) {
					t.Errorf("the Conn ended with %v", err)
				}
			})
		})
	}
}

// reconnect(): a new link at once, over which subscriptions carry on.
func TestReconnectKeepsSubscriptions(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		sub, err := conn.Subscribe(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := conn.Reconnect(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the second link", func() bool { return conn.Stats().Links == 2 && conn.State() == mqtt.StateConnected })
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
		synctest.Wait()
		if err := srv.Publish("t", []byte("x"), 1, false); err != nil {
			t.Fatal(err)
		}
		<-sub.C()
	})
}

// disconnect(): pending publishes finish, DISCONNECT is the last packet, no
// attempt follows.
func TestDisconnectIsTheLastPacket(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, network := serve(t, v, server.Config{OnAck: func(a server.Ack) server.Fate {
			if a.Type == codec.PUBACK {
				return server.Fate{Delay: time.Second}
			}
			return server.Fate{}
		}})
		f := conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		if err := conn.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := f.Err(); err != nil {
			t.Errorf("the pending publish: %v", err)
		}
		synctest.Wait() // the server reads to the end
		packets := slices.DeleteFunc(srv.Packets("c"), func(p server.Packet) bool { return !p.FromClient })
		if last := packets[len(packets)-1]; last.Type != codec.DISCONNECT {
			t.Errorf("the last packet is %v", last)
		}
		time.Sleep(time.Hour)
		if n := network.Dials(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// publish(payload=...): payloads of text and numbers.
func TestPayloadsOfTextAndNumbers(t *testing.T) {
	for want, got := range map[string][]byte{
		"": mqtt.TextPayload(""), "text": mqtt.TextPayload("text"), "-12": mqtt.IntPayload(-12), "9223372036854775807": mqtt.IntPayload(1<<63 - 1),
		"0.1": mqtt.FloatPayload(0.1), "1e+100": mqtt.FloatPayload(1e100), "3": mqtt.FloatPayload(3),
	} {
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// ValueError: what cannot be published is refused, nothing is sent and no packet
// identifier is used.
func TestPublishRefusals(t *testing.T) {
	huge := mqtt.Message{Topic: "a", Payload: make([]byte, 268_435_456)}.GiveAway()
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		for name, m := range map[string]mqtt.Message{
			"no topic": {}, "wildcard": {Topic: "a/+", QoS: 1}, "NUL": {Topic: "a\x00", QoS: 1}, "QoS 3": {Topic: "a", QoS: 3},
			"topic too long": {Topic: strings.Repeat("a", 65536), QoS: 1}, "response topic": {Topic: "a", Properties: &mqtt.Properties{ResponseTopic: "#"}},
		} {
			f := s.conn.Publish(t.Context(), m)
			p, ok := errors.AsType[*mqtt.PublishError](f.Err())
			if !ok || p.MayHaveArrived || !errors.Is(p, mqtt.ErrInvalid) || f.PacketID() != 0 {
				t.Errorf("%s: %v", name, f.Err())
			}
		}
		if err := s.conn.Publish(t.Context(), huge).Err(); !errors.Is(err, mqtt.ErrPacketTooLarge) {
			t.Errorf("payload above 268,435,455 bytes: %v", err)
		}
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		s.expectPublish(0x32, 1, "a", "")
		s.sendAck(0x40, 1)
		succeeded(t, f)
	})
}

// subscribe and unsubscribe with a list: one packet, one result for each filter.
func TestManyFiltersInOnePacket(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{OnSubscribe: func(_ string, s codec.Subscription) codec.ReasonCode {
			return codec.ReasonCode(min(s.QoS, 1))
		}})
		sub, err := conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a", QoS: 2}, {Pattern: "b/+", QoS: 0}, {Pattern: "c/#", QoS: 1}})
		if err != nil {
			t.Fatal(err)
		}
		var granted []mqtt.QoS
		for _, r := range sub.Results() {
			granted = append(granted, r.Granted)
		}
		if !slices.Equal(granted, []mqtt.QoS{1, 0, 1}) || sub.Granted() != 1 {
			t.Errorf("granted %v, the first %d", granted, sub.Granted())
		}
		results, err := conn.Unsubscribe(t.Context(), "a", "b/+", "c/#", "of a former process")
		if err != nil || len(results) != 4 || !errors.Is(sub.Err(), mqtt.ErrUnsubscribed) {
			t.Errorf("unsubscribed: %v, %v; the subscription: %v", results, err, sub.Err())
		}
		if n := srv.Stats().Packets; n[codec.SUBSCRIBE] != 1 || n[codec.UNSUBSCRIBE] != 1 {
			t.Errorf("%d SUBSCRIBEs, %d UNSUBSCRIBEs", n[codec.SUBSCRIBE], n[codec.UNSUBSCRIBE])
		}
	})
}

// on_disconnect: the event tells an end that was asked for from others.
func TestDisconnectedSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{})
		srv.Disconnect("c", codec.ServerShuttingDown)
		reason, ok := errors.AsType[*mqtt.ReasonError](await[mqtt.Disconnected](t, conn.Events()).Err)
		if !ok || reason.Code != codec.ServerShuttingDown {
			t.Errorf("after the server's DISCONNECT: %v", reason)
		}
		await[mqtt.Connected](t, conn.Events())
		srv.Cut("c")
		if err := await[mqtt.Disconnected](t, conn.Events()).Err; err == nil || errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("after a cut: %v", err)
		}
		await[mqtt.Connected](t, conn.Events())
		conn.Close()
		if err := await[mqtt.Disconnected](t, conn.Events()).Err; !errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// on_message and message_callback_add: every subscription that matches has the
// message once, and what matches none goes to the catch-all.
func TestEveryMatchHasTheMessage(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithCatchAll())
		subs := map[string]*mqtt.Subscription{}
		for _, f := range []string{"a/#", "a/+", "a/b", "other"} {
			s, err := conn.Subscribe(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			subs[f] = s
			s.C()
		}
		rest := conn.CatchAll()
		rest.C()
		if err := srv.Publish("a/b", []byte("x"), 1, false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for f, s := range subs {
			want := 1
			if f == "other" {
				want = 0
			}
			if got := len(s.C()); got != want {
				t.Errorf("%s has %d messages, want %d", f, got, want)
			}
		}
		if n := len(rest.C()); n != 0 {
			t.Errorf("the catch-all has %d messages, want none", n)
		}
	})
}

// The fallback of on_message: what comes and matches nothing.
func TestUnmatchedGoesToTheCatchAll(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithCatchAll())
		s.SendBytes(rawPublish(v, 0x32, 7, "of a former process", "x"))
		if m := <-s.conn.CatchAll().C(); m.Topic != "of a former process" {
			t.Errorf("got %q", m.Topic)
		}
		s.ExpectBytes(rawAck(0x40, 7))
	})
}
