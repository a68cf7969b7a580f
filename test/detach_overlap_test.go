package mqtt_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A subscription that takes over one of several filters that were detached together
// gets a message once, although it matches the others too.
func TestClaimedFromSeveralOnce(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		old, err := conn.SubscribeMany(ctx, []mqtt.Filter{{Pattern: "a/b", QoS: 1}, {Pattern: "a/#", QoS: 1}})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-old.Done()
		s := subscribe(t, conn, "a/b")
		publish(t, srv, "a/b", 0, "0")
		publish(t, srv, "a/b", 1, "1")
		expect(t, s.C(), "0", "1")
		idle(t, s.C())
	})
}

// What two detached subscriptions held comes once to the one that takes
// over from both, and needs one acknowledgement.
func TestClaimedFromTwoOnce(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		filters := []mqtt.Filter{{Pattern: "a/b", QoS: 1}, {Pattern: "a/#", QoS: 1}}
		for _, f := range filters {
			if _, err := conn.SubscribeMany(ctx, []mqtt.Filter{f}); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		synctest.Wait()
		publish(t, srv, "a/b", 1, "1")
		synctest.Wait()
		s, err := conn.SubscribeMany(t.Context(), filters, mqtt.WithManualAck())
		if err != nil {
			t.Fatal(err)
		}
		m := <-s.C()
		idle(t, s.C())
		if err := m.Ack(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if owed := conn.Stats().AcksOwed; owed > 0 {
			t.Errorf("%d acknowledgements are owed", owed)
		}
	})
}

// What a detached subscription held is handed out in the order of arrival,
// although a newer message took the place of an older one in it.
func TestClaimedFromLatestInOrder(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithSession(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := conn.Subscribe(ctx, "a/+", mqtt.WithSlowPolicy(mqtt.SlowLatest)); err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "a/x", 1, "1")
		publish(t, srv, "a/y", 2, "2")
		publish(t, srv, "a/z", 1, "3")
		publish(t, srv, "a/x", 1, "4")
		synctest.Wait()
		cancel()
		s := subscribe(t, conn, "a/+")
		publish(t, srv, "a/z", 1, "5")
		expect(t, s.C(), "2", "3", "4", "5")
	})
}
