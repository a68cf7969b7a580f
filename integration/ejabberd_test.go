package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
)

// TestEjabberdRefusesOneFilter subscribes to what ejabberd's access list forbids. It
// says so by the code 0x8F on 3.1.1 too: that filter alone is refused, and the link,
// the other filters of the same packet and the other subscriptions go on.
func TestEjabberdRefusesOneFilter(t *testing.T) {
	b := broker.StartEjabberd(t)
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		conn := connect(t, b, broker.Version(v), broker.TCP)
		good := subscribe(t, conn, "ok/good", mqtt.QoS(1))

		_, err := conn.Subscribe(t.Context(), "denied/one", mqtt.QoS(1))
		refusedBy(t, err, v)

		filters := []mqtt.Filter{{Pattern: "ok/part", QoS: 1}, {Pattern: "denied/part", QoS: 1}}
		_, err = conn.SubscribeMany(t.Context(), filters)
		refusedBy(t, err, v)
		part, err := conn.SubscribeMany(t.Context(), filters, mqtt.WithPartialSuccess())
		if err != nil {
			t.Fatalf("WithPartialSuccess: %v", err)
		}
		if r := part.Results(); r[0].Err != nil || r[1].Err == nil || !r[1].Code.IsError() {
			t.Errorf("results %+v", r)
		}
		for _, topic := range []string{"ok/good", "ok/part"} {
			publish(t, conn, mqtt.Message{Topic: topic, QoS: 1})
		}
		receive(t, good)
		receive(t, part.C())
		if links := conn.Stats().Links; links != 1 {
			t.Errorf("%d links, want the first to live", links)
		}
	})
}

// refusedBy checks that the server refused a filter by the SUBACK's code.
func refusedBy(t *testing.T, err error, v mqtt.Version) {
	t.Helper()
	refused, ok := errors.AsType[*mqtt.SubscribeError](err)
	if !ok {
		t.Fatalf("%T %v, want a *SubscribeError", err, err)
	}
	last := refused.Results[len(refused.Results)-1]
	reason, ok := errors.AsType[*mqtt.ReasonError](last.Err)
	if !ok || reason.Packet != codec.SUBACK || reason.Version != v || !reason.Code.IsError() {
		t.Errorf("%+v, want the code of the SUBACK", last)
	}
}

// TestEjabberdRefusesPublish publishes what ejabberd's access list forbids. On 5.0 the
// PUBACK says so. On 3.1.1 it has no way to: it may acknowledge and drop, or close the
// connection, and then the message alone is given up.
func TestEjabberdRefusesPublish(t *testing.T) {
	b := broker.StartEjabberd(t)
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		conn := connect(t, b, broker.Version(v), broker.TCP)
		good := subscribe(t, conn, "ok/good", mqtt.QoS(1))
		for qos := mqtt.QoS(1); qos <= 2; qos++ {
			err := settled(t, conn.Publish(t.Context(), mqtt.Message{Topic: "denied/topic", QoS: qos}))
			t.Logf("QoS %d: %v, %d links", qos, err, conn.Stats().Links)
			if _, ok := errors.AsType[*mqtt.ReasonError](err); v == mqtt.V5 && !ok {
				t.Errorf("QoS %d: %v, want the reason code", qos, err)
			}
		}
		awaitUp(t, conn)
		publish(t, conn, mqtt.Message{Topic: "ok/good", QoS: 1})
		receive(t, good)
	})
}

// awaitUp waits for a link.
func awaitUp(t *testing.T, conn *mqtt.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := conn.WaitConnected(ctx); err != nil {
		t.Fatal(err)
	}
}
