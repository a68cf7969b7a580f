package integration

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// TestRabbitMQRewritesATopic publishes to a topic with an asterisk, which RabbitMQ
// hands to the subscriber with a plus sign: a PUBLISH that the subscriber must not
// accept [MQTT-3.3.2-2]. RabbitMQ sends it again on every link. After three links that
// died of it the client acknowledges and drops it, and what comes behind arrives.
func TestRabbitMQRewritesATopic(t *testing.T) {
	b := broker.StartRabbitMQ(t)
	pub := connect(t, b, broker.V311, broker.TCP)
	session := []mqtt.ConnectOption{mqtt.WithClientID("rewritten"), mqtt.WithSession(time.Hour)}
	conn := connect(t, b, broker.V311, broker.TCP, session...)
	messages := subscribe(t, conn, "rewritten/#", mqtt.QoS(1))
	publish(t, pub, mqtt.Message{Topic: "rewritten/*/x", Payload: []byte("poison"), QoS: 1})
	publish(t, pub, mqtt.Message{Topic: "rewritten/good", Payload: []byte("good"), QoS: 1})
	if m := receive(t, messages); string(m.Payload) != "good" {
		t.Errorf("got %q on %q", m.Payload, m.Topic)
	}
	t.Logf("%d links", conn.Stats().Links)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	// The next one with that identifier meets nothing of it.
	next := connect(t, b, broker.V311, broker.TCP, append(session, mqtt.WithSubscription("rewritten/#", mqtt.QoS(1)))...)
	publish(t, pub, mqtt.Message{Topic: "rewritten/good", Payload: []byte("more"), QoS: 1})
	if m := receive(t, next.Subscription("rewritten/#").C()); string(m.Payload) != "more" {
		t.Errorf("got %q on %q", m.Payload, m.Topic)
	}
	if links := next.Stats().Links; links != 1 {
		t.Errorf("%d links of the next Conn, want 1", links)
	}
}

// TestRabbitMQAcknowledgesQoS2ByPUBACK publishes at QoS 2. RabbitMQ takes the message
// as one of QoS 1: the Future says so, and the link lives on.
func TestRabbitMQAcknowledgesQoS2ByPUBACK(t *testing.T) {
	b := broker.StartRabbitMQ(t)
	conn := connect(t, b, broker.V311, broker.TCP)
	messages := subscribe(t, conn, "two", mqtt.QoS(2))
	err := settled(t, conn.Publish(t.Context(), mqtt.Message{Topic: "two", QoS: 2}))
	if !errors.Is(err, mqtt.ErrWrongAck) {
		t.Errorf("%v, want ErrWrongAck", err)
	}
	receive(t, messages)
	if links := conn.Stats().Links; links != 1 {
		t.Errorf("%d links, want the first to live", links)
	}
}
