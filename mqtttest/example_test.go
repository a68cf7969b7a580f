package mqtttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest"
)

// t stands for the *testing.T of a test.
type exampleT struct{ cleanup []func() }

func (t *exampleT) Helper()                      {}
func (t *exampleT) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (t *exampleT) Cleanup(f func())             { t.cleanup = append(t.cleanup, f) }
func (t *exampleT) end() {
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		t.cleanup[i]()
	}
}

var _ mqtttest.TB = (*testing.T)(nil)

// A Conn, a server in memory, and what the server saw.
func Example() {
	t := new(exampleT) // in a test: the *testing.T
	defer t.end()

	broker := mqtttest.Start(t, mqtttest.Config{})
	conn := mqtttest.Connect(t, broker)
	ctx := context.Background()
	sub, err := conn.Subscribe(ctx, "plant/+/temp")
	if err != nil {
		fmt.Println(err)
		return
	}
	fut := conn.Publish(ctx, mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.TextPayload("21.5"), QoS: 1})
	fmt.Println("published:", fut.Wait(ctx))
	fmt.Printf("received: %s\n", (<-sub.C()).Payload)
	for _, r := range broker.Received() {
		fmt.Printf("the server got %s at QoS %d\n", r.Topic, r.QoS)
	}
	fmt.Println(len(broker.Violations()), "violations")
	// Output:
	// published: <nil>
	// received: 21.5
	// the server got plant/7/temp at QoS 1
	// 0 violations
}

// A Future that fails as the test says.
func ExampleResolvedFuture() {
	f := mqtttest.ResolvedFuture(&mqtt.PublishError{Topic: "t", Err: mqtt.ErrQueueFull})
	fmt.Println(errors.Is(f.Err(), mqtt.ErrQueueFull), f.Stage())
	// Output: true done
}

// A Future that is pending until the test resolves it.
func ExamplePendingFuture() {
	f, resolve := mqtttest.PendingFuture()
	fmt.Println(f.Err())
	resolve(nil)
	<-f.Done()
	fmt.Println(f.Err())
	// Output:
	// mqtt: pending
	// <nil>
}

// A Subscription that the test feeds, and ends.
func ExampleNewSubscription() {
	sub, feed := mqtttest.NewSubscription("plant/+/temp", mqtt.QoS(1))
	feed.Send(mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.TextPayload("21.5"), QoS: 1})
	feed.Send(mqtt.Message{Topic: "plant/8/temp", Payload: mqtt.TextPayload("19.0"), Retain: true})
	c := sub.C()
	for range 2 {
		m := <-c
		fmt.Printf("%s: %s, retained %t\n", m.Topic, m.Payload, m.Retained())
	}
	feed.End(mqtt.ErrClosed)
	_, open := <-c
	fmt.Println(open, sub.Err(), feed.Acked())
	// Output:
	// plant/7/temp: 21.5, retained false
	// plant/8/temp: 19.0, retained true
	// false mqtt: connection closed 1
}
