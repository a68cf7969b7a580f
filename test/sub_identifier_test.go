package mqtt_test

import (
	"encoding/binary"
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

// A server that sends a copy of a message for each filter may lose the link between the
// copies. What a subscription passed over on the first link it must not miss on the second,
// where another of its filters may count: the copy sent again is known, and the other one
// is the only one left.
func TestCopyPassedOverOnAnEarlierLinkIsNotTheLast(t *testing.T) {
	for _, firstCopy := range []int{0, 1} {
		for _, qos := range []byte{1, 2} {
			synctest.Test(t, func(t *testing.T) { passOverAndCut(t, firstCopy, qos) })
		}
	}
}

func passOverAndCut(t *testing.T, firstCopy int, qos byte) {
	filters := []string{"in/+", "in/#"}
	s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
	sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: filters[0], QoS: mqtt.QoS(qos)}, {Pattern: filters[1], QoS: mqtt.QoS(qos)}},
		mqtt.WithoutWaiting())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string][]byte{} // subscription identifiers, as on the wire
	for range filters {
		p := s.ExpectPacket() // 82, length, packet identifier, 05 0B and four bytes, filter
		ids[string(p[12:len(p)-1])] = p[6:10]
		s.suback(0x90, binary.BigEndian.Uint16(p[2:]), qos)
	}
	<-sub.Ready()
	copies := func(dup byte, i int) {
		p := []byte{0x30 | dup | qos<<1, 15, 0, 4, 'i', 'n', '/', 'b', 0, byte(1 + i), 5, 0x0B}
		s.SendBytes(append(append(p, ids[filters[i]]...), 'm'))
		synctest.Wait()
	}
	got := 0
	count := func() {
		for synctest.Wait(); len(sub.C()) > 0; got++ {
			<-sub.C()
		}
	}
	sub.C()
	copies(0, firstCopy)
	count()
	s.Cut()
	time.Sleep(100 * time.Millisecond)
	if _, err := s.conn.Subscribe(t.Context(), filters[1], mqtt.QoS(2), mqtt.WithoutWaiting()); err != nil {
		t.Fatal(err)
	}
	s.next(server.ConnackPresent)
	copies(8, firstCopy)
	copies(8, 1-firstCopy)
	count()
	if got == 0 {
		t.Errorf("QoS %d, first the copy for %s: the message never came", qos, filters[firstCopy])
	}
}
