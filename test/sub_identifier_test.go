package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A message that waits at the server while a second subscription of a filter
// asks for it again still reaches the first, beside an overlapping one.
func TestFilterSubscribedAgainWhileMessagesWait(t *testing.T) {
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

// What waits at the server for a filter carries the identifier that an
// earlier process gave it. It is not taken for that of another filter which matches
// too, in a process that subscribes in another order.
func TestIdentifierOfAnEarlierProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		process := func(filters ...string) *mqtt.Conn {
			opts := []mqtt.ConnectOption{mqtt.WithClientID("c"), mqtt.WithSession(time.Hour), mqtt.WithDialer(network.Dial)}
			for _, f := range filters {
				opts = append(opts, mqtt.WithSubscription(f, mqtt.QoS(1)))
			}
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range filters {
				<-conn.Subscription(f).Ready()
			}
			return conn
		}
		process("a/b").Close()
		publish(t, srv, "a/b", 1, "waits")
		conn := process("a/#", "a/b")
		expect(t, conn.Subscription("a/b").C(), "waits")
		expect(t, conn.Subscription("a/#").C(), "waits")
		conn.Close()
	})
}

// A message that carries the identifier that an earlier process gave one
// filter, and that of this process for another, reaches both: the server took it
// between the two SUBSCRIBEs.
func TestIdentifiersOfTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		srv := server.Start(network, server.Config{})
		defer srv.Close()
		opts := []mqtt.ConnectOption{mqtt.WithClientID("c"), mqtt.WithSession(time.Hour), mqtt.WithDialer(network.Dial)}
		connect := func() *mqtt.Conn {
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		earlier := connect()
		subscribe(t, earlier, "a/#")
		earlier.Close()

		conn := connect()
		defer conn.Close()
		beside := subscribe(t, conn, "a/b")
		network.Last().Stall(server.ToServer)
		s := subscribe(t, conn, "a/#", mqtt.WithoutWaiting())
		synctest.Wait()
		publish(t, srv, "a/b", 1, "1")
		expect(t, beside.C(), "1")
		synctest.Wait()
		expect(t, s.C(), "1")
		network.Last().Resume(server.ToServer)
		<-s.Ready()
		idle(t, s.C())
	})
}
