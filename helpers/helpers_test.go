package helpers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/helpers"
	"github.com/millrace/mqtt/mqtttest/server"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const url = "mqtt://server"

// inBubble runs f in virtual time against an in-memory server, and checks that
// the server saw no fault of the client's.
func inBubble(t *testing.T, f func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption)) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		srv := server.Start(&network, server.Config{})
		defer srv.Close()
		f(t, srv, mqtt.WithDialer(network.Dial))
		if v := srv.Violations(); len(v) > 0 {
			t.Error(v)
		}
	})
}

func filters(f ...string) helpers.Selection {
	var s helpers.Selection
	for _, filter := range f {
		s.Filters = append(s.Filters, mqtt.Filter{Pattern: filter, QoS: 2})
	}
	return s
}

func payloads(messages []mqtt.Message) []string {
	var p []string
	for _, m := range messages {
		p = append(p, string(m.Payload))
	}
	return p
}

func TestPublishAllKeepsOrder(t *testing.T) {
	for qos := range mqtt.QoS(3) {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
				var messages []mqtt.Message
				var want []string
				for i := range 100 {
					messages = append(messages, mqtt.Message{Topic: "t", Payload: mqtt.IntPayload(int64(i)), QoS: qos})
					want = append(want, fmt.Sprint(i))
				}
				if err := helpers.PublishAll(t.Context(), url, messages, dial); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // QoS 0 is done when it is written: let the server read it
				var got []string
				for _, m := range srv.Received() {
					got = append(got, string(m.Payload))
				}
				if !slices.Equal(got, want) {
					t.Errorf("the server has %q", got)
				}
			})
		})
	}
}

func TestPublishAllTellsWhichFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
		err := helpers.PublishAll(t.Context(), url, []mqtt.Message{
			{Topic: "a/+", QoS: 1}, {Topic: "b", QoS: 1},
		}, dial)
		if p, ok := errors.AsType[*mqtt.PublishError](err); !ok || p.Topic != "a/+" || p.MayHaveArrived {
			t.Errorf("got %v", err)
		}
		if got := srv.Received(); len(got) != 1 || got[0].Topic != "b" {
			t.Errorf("the server has %v, want b alone", got)
		}
	})
}

func TestReceive(t *testing.T) {
	for _, tt := range []struct {
		skip bool
		want []string
	}{
		{false, []string{"old", "new 0"}},
		{true, []string{"new 0", "new 1"}},
	} {
		t.Run(fmt.Sprint("skip retained ", tt.skip), func(t *testing.T) {
			inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
				if err := helpers.PublishOne(t.Context(), url, mqtt.Message{Topic: "t/1", Payload: []byte("old"), QoS: 1, Retain: true}, dial); err != nil {
					t.Fatal(err)
				}
				go func() {
					time.Sleep(time.Second) // virtual: Receive has subscribed
					helpers.PublishAll(t.Context(), url, []mqtt.Message{
						{Topic: "t/2", Payload: []byte("new 0"), QoS: 1}, {Topic: "u", Payload: []byte("new 1"), QoS: 2},
					}, dial)
				}()
				what := filters("t/+", "u")
				what.SkipRetained = tt.skip
				got, err := helpers.Receive(t.Context(), 2, url, what, dial)
				if err != nil || !slices.Equal(payloads(got), tt.want) {
					t.Errorf("got %q, %v; want %q", payloads(got), err, tt.want)
				}
				synctest.Wait()
			})
		})
	}
}

func TestReceiveReturnsWhatItHas(t *testing.T) {
	inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
		if err := helpers.PublishOne(t.Context(), url, mqtt.Message{Topic: "t", Payload: []byte("one"), QoS: 1, Retain: true}, dial); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got, err := helpers.Receive(ctx, 2, url, filters("t"), dial)
		if !errors.Is(err, context.DeadlineExceeded) || len(got) != 1 {
			t.Errorf("got %q, %v; want one message and the deadline", payloads(got), err)
		}
	})
}

func TestHandleStops(t *testing.T) {
	enough := errors.New("enough")
	for name, tt := range map[string]struct {
		handler func(mqtt.Message) error
		want    error
	}{
		"when the handler fails": {func(mqtt.Message) error { return enough }, enough},
		"when its context ends":  {func(mqtt.Message) error { return nil }, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
				if err := helpers.PublishOne(t.Context(), url, mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 1, Retain: true}, dial); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := helpers.Handle(ctx, tt.handler, url, filters("t"), dial); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}

func TestNothingToSubscribeTo(t *testing.T) {
	inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
		if _, err := helpers.Receive(t.Context(), 1, url, helpers.Selection{}, dial); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("got %v, want ErrInvalid", err)
		}
		if got, err := helpers.Receive(t.Context(), 0, url, filters("t"), dial); len(got) != 0 || err != nil {
			t.Errorf("0 messages: got %v, %v", got, err)
		}
	})
}

// TestReceiveHasTheBacklogOfAKeptSession: the backlog of a kept session reaches Receive.
func TestReceiveHasTheBacklogOfAKeptSession(t *testing.T) {
	inBubble(t, func(t *testing.T, srv *server.Server, dial mqtt.ConnectOption) {
		kept := []mqtt.ConnectOption{dial, mqtt.WithClientID("kept"), mqtt.WithSession(time.Hour)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := helpers.Receive(ctx, 1, url, filters("t/+", "u"), kept...); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		var want []string
		for i := range 50 {
			topic := []string{"t/1", "u"}[i%2]
			if err := srv.Publish(topic, mqtt.IntPayload(int64(i)), byte(1+i%2), false); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(i))
		}
		got, err := helpers.Receive(t.Context(), 50, url, filters("u", "t/+"), kept...)
		if err != nil || !slices.Equal(payloads(got), want) {
			t.Errorf("got %q, %v", payloads(got), err)
		}
		synctest.Wait()
	})
}
