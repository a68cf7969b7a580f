package mqtt_test

import (
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
)

// mochi sends DISCONNECT to 3.1.1 clients when it is shut down; the third time
// used to end the Conn as if a message made it close the link again and again.
func TestRestartsOfAServerThatSendsDisconnectOn3DoNotEndTheConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		for range 5 {
			s.Send("e0 00")
			s.next(connack(mqtt.V311, false))
		}
		if got := s.conn.State(); got != mqtt.StateConnected {
			t.Errorf("the Conn is %v: %v", got, s.conn.Err())
		}
	})
}
