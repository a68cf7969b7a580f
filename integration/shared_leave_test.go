package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// TestSharedSubscriptionLeavesUnderTraffic has one of a group of two leave by Drain
// while messages come at QoS 1 and 2: each has come to one of the two, once. The one
// that leaves is slow, so that the broker has messages lined up for it when it answers
// UNSUBSCRIBE, which it sends behind the answer.
func TestSharedSubscriptionLeavesUnderTraffic(t *testing.T) {
	for _, start := range []func(t *testing.T) *broker.Broker{
		func(t *testing.T) *broker.Broker { return broker.StartMosquitto(t, broker.MosquittoOptions{}) },
		func(t *testing.T) *broker.Broker { return broker.StartMochi(t, broker.MochiOptions{}) },
	} {
		b := start(t)
		for _, v := range []broker.Version{broker.V311, broker.V5} {
			for qos := mqtt.QoS(1); qos <= 2; qos++ {
				t.Run(fmt.Sprintf("%s/%s/QoS %d", b.Name(), v, qos), func(t *testing.T) { leaveGroup(t, b, v, qos) })
			}
		}
	}
}

func leaveGroup(t *testing.T, b *broker.Broker, v broker.Version, qos mqtt.QoS) {
	const (
		messages    = 1500
		outstanding = 300 // published and not with the application
	)
	topic := fmt.Sprint("leave/", v, "/", qos)
	got := make(chan string, messages)
	places := make(chan struct{}, outstanding)
	join := func(d time.Duration) (*mqtt.Conn, *mqtt.Subscription) {
		conn := connect(t, b, v, broker.TCP)
		return conn, handle(t, conn, "$share/g/"+topic, qos, func(m mqtt.Message) {
			time.Sleep(d) // a message's work
			got <- string(m.Payload)
			<-places
		})
	}
	conn, leaves := join(2 * time.Millisecond)
	_, stays := join(0)
	from := connect(t, b, v, broker.TCP, mqtt.WithMaxInflight(20)) // what Mosquitto takes at a time
	var published sync.WaitGroup
	published.Go(func() {
		for n := range messages {
			places <- struct{}{}
			from.Publish(context.Background(), mqtt.Message{Topic: topic, Payload: mqtt.IntPayload(int64(n)), QoS: qos})
		}
		if err := from.Flush(context.Background()); err != nil {
			t.Error(err)
		}
	})
	seen := map[string]int{}
	take := func() {
		p, _ := within(t, "a message", got)
		seen[p]++
	}
	for range messages / 3 {
		take()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := leaves.Drain(ctx); err != nil {
		t.Errorf("Drain: %v", err)
	}
	left := leaves.Stats()
	for range messages - messages/3 {
		take()
	}
	published.Wait()
	if len(seen) != messages {
		t.Errorf("%d of %d messages came, others twice", len(seen), messages)
	}
	if left.Dropped != 0 || left.Delivered == 0 || left != leaves.Stats() {
		t.Errorf("the one that left had %+v, then %+v", left, leaves.Stats())
	}
	if n := conn.Stats().Unmatched; n != 0 {
		t.Errorf("%d messages matched no subscription", n)
	}
	t.Logf("%d came to the one that left, %d to the other", left.Delivered, stays.Stats().Delivered)
}

// handle subscribes to a filter and handles what comes.
func handle(t *testing.T, conn *mqtt.Conn, filter string, qos mqtt.QoS, body func(mqtt.Message)) *mqtt.Subscription {
	t.Helper()
	sub, err := conn.Subscribe(context.Background(), filter, qos)
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Handle(body); err != nil {
		t.Fatal(err)
	}
	return sub
}
