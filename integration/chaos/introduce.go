package chaos

import (
	"context"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// introduceReceiver makes the receiver's session at the broker: what is published
// before a first subscription reaches no subscriber.
func (r *run) introduceReceiver(ctx context.Context) error {
	conn, err := mqtt.Connect(ctx, r.broker.URL(broker.TCP),
		mqtt.WithVersions(r.config.Version), mqtt.WithClientID(clientID("receiver")), mqtt.WithSession(time.Hour))
	if err != nil {
		return err
	}
	for lane, qos := range lanes {
		if _, err := conn.Subscribe(ctx, topic(lane), qos); err != nil {
			conn.Abort()
			return err
		}
	}
	return conn.Close()
}
