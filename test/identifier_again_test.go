package mqtt_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// A server that uses one packet identifier again and again without DUP, behind a message
// that the application has not acknowledged, keeps to our Receive Maximum, on 3.1.1 to the
// number of packet identifiers. Else there were no bound to what is pending.
func TestIdentifierUsedAgainCountsTowardsReceiveMaximum(t *testing.T) {
	for _, c := range []struct {
		v    mqtt.Version
		most int
	}{{mqtt.V5, 10}, {mqtt.V311, 65_535}} {
		t.Run(fmt.Sprint(c.v), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opts []mqtt.ConnectOption
				if c.v == mqtt.V5 {
					opts = append(opts, mqtt.WithReceiveMaximum(c.most))
				}
				s := script(t, c.v, opts...)
				events := s.conn.Watch(t.Context())
				sub := s.subscribed("t", 1, mqtt.WithManualAck(), mqtt.WithPendingLimit(1<<20, 0))
				s.message(0x32, 1, "t", "held")
				for i := range c.most - 1 {
					s.SendBytes(rawPublish(c.v, 0x32, 2, "t", fmt.Sprint(i)))
				}
				synctest.Wait()
				if n := sub.Stats().Pending + len(sub.C()); n != c.most || s.conn.State() != mqtt.StateConnected {
					t.Fatalf("%d pending, the Conn is %v; want %d and connected", n, s.conn.State(), c.most)
				}
				s.SendBytes(rawPublish(c.v, 0x32, 2, "t", "one more"))
				e := nextEvent[mqtt.Disconnected](t, events)
				fault, ok := errors.AsType[*mqtt.ProtocolError](e.Err)
				if !ok || fault.Code != codec.ReceiveMaximumExceeded {
					t.Errorf("the link ended with %v", e.Err)
				}
			})
		})
	}
}
