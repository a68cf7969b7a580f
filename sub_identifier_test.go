package mqtt_test

import (
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// B26: a message that waits at the server while a second subscription of a filter
// asks for it again still reaches the first, beside an overlapping one.
func TestB26_SharedAgainWhileMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{}, mqtt.WithReceiveMaximum(1))
		first := subscribe(t, conn, "a/#", mqtt.WithManualAck())
		beside := subscribe(t, conn, "a/b")
		publish(t, srv, "a/b", 1, "1", "2")
		m := take(t, first.C())
		expect(t, beside.C(), "1")
		subscribe(t, conn, "a/#")
		if err := m.Ack(); err != nil {
			t.Fatal(err)
		}
		expect(t, beside.C(), "2")
		synctest.Wait()
		expect(t, first.C(), "2")
	})
}
