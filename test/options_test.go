package mqtt_test

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/mqtt"
)

// A duration below its range is refused before any I/O.
func TestNegativeDurationsAreRefused(t *testing.T) {
	for name, option := range map[string]func(time.Duration) mqtt.ConnectOption{
		"WithSession": mqtt.WithSession, "WithConnectTimeout": mqtt.WithConnectTimeout, "WithStableAfter": mqtt.WithStableAfter,
		"WithPingTimeout": mqtt.WithPingTimeout, "WithCloseTimeout": mqtt.WithCloseTimeout,
		"WithSubscribeTimeout": mqtt.WithSubscribeTimeout, "WithAckTimeout": mqtt.WithAckTimeout,
		"WithAckOverdue": mqtt.WithAckOverdue, "WithStuckAfter": mqtt.WithStuckAfter,
	} {
		_, err := mqtt.Connect(t.Context(), "unix:///nowhere/at/all", mqtt.WithClientID("c"), option(-time.Second))
		if _, ok := errors.AsType[*mqtt.InvalidError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
