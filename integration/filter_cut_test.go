package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
)

// tooDeep is a filter of more levels than Mosquitto takes: it cuts the link at a
// SUBSCRIBE or UNSUBSCRIBE of it, in every version.
var tooDeep = strings.Repeat("a/", 250) + "#"

// TestMosquittoCutsAtAFilter subscribes to a filter at which Mosquitto cuts the link:
// that Subscribe fails and says why, and the rest of the Conn works on.
func TestMosquittoCutsAtAFilter(t *testing.T) {
	b := broker.StartMosquitto(t, broker.MosquittoOptions{})
	for _, session := range []time.Duration{0, time.Hour} {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
			t.Run(fmt.Sprintf("%v, session %v", v, session), func(t *testing.T) {
				t.Parallel()
				opts := []mqtt.ConnectOption{mqtt.WithClientID(fmt.Sprintf("cut-%d-%d", v, session/time.Hour))}
				if session > 0 {
					opts = append(opts, mqtt.WithSession(session))
				}
				conn := connect(t, b, broker.Version(v), broker.TCP, opts...)
				topic := "good/" + conn.ClientID()
				good := subscribe(t, conn, topic)
				events := conn.Watch(t.Context())

				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := conn.Subscribe(ctx, tooDeep)
				e, ok := errors.AsType[*mqtt.SetAsideError](err)
				if !ok || e.Filter != tooDeep || e.Packet != codec.SUBSCRIBE {
					t.Fatalf("Subscribe: %v", err)
				}
				for {
					ev, _ := within(t, "FilterSetAside", events)
					if ev, ok := ev.(mqtt.FilterSetAside); ok {
						if ev.Filter != tooDeep {
							t.Errorf("%+v", ev)
						}
						break
					}
				}
				links := conn.Stats().Links
				if links > 6 {
					t.Errorf("%d links", links)
				}
				if err := conn.WaitConnected(ctx); err != nil {
					t.Fatal(err)
				}
				for i := range 20 {
					payload := fmt.Sprint(i)
					publish(t, conn, mqtt.Message{Topic: topic, Payload: []byte(payload), QoS: 1})
					if m := receive(t, good); string(m.Payload) != payload {
						t.Fatalf("got %q, want %q", m.Payload, payload)
					}
				}
				if _, err := conn.Unsubscribe(ctx, tooDeep); err != nil {
					t.Errorf("Unsubscribe: %v", err)
				}
				if session > 0 {
					unsubscribeIsGivenUp(t, conn, events)
				}
			})
		}
	}
}

// unsubscribeIsGivenUp waits until the UNSUBSCRIBE of tooDeep is given up, in a session
// that is kept, and then until a link is up that carries a publish.
func unsubscribeIsGivenUp(t *testing.T, conn *mqtt.Conn, events <-chan mqtt.Event) {
	t.Helper()
	for {
		ev, _ := within(t, "FilterSetAside", events)
		if ev, ok := ev.(mqtt.FilterSetAside); ok {
			if ev.Filter != tooDeep || ev.Packet != codec.UNSUBSCRIBE {
				t.Errorf("%+v", ev)
			}
			break
		}
	}
	publish(t, conn, mqtt.Message{Topic: "after", QoS: 1})
}
