package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// inMemory starts a server in memory for an example and returns the option that
// reaches it. A program of your own has only the URL.
func inMemory() (option mqtt.ConnectOption, stop func()) {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	return mqtt.WithDialer(network.Dial), func() { srv.Close() }
}

// The whole round: connect, subscribe with a type, publish, select.
func Example() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()

	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	type reading struct{ Celsius float64 }
	readings, err := mqtt.SubscribeAs(ctx, conn, "plant/+/temp", mqtt.JSON[reading]())
	if err != nil {
		log.Fatal(err)
	}
	sent := mqtt.PublishAs(ctx, conn, mqtt.Message{Topic: "plant/7/temp", QoS: 1}, mqtt.JSON[reading](), reading{21.5})

	select {
	case r := <-readings.C():
		fmt.Println(r.Msg.Topic, r.Value.Celsius, r.Err)
	case <-conn.Done():
		log.Fatal(conn.Err())
	}
	fmt.Println("the server has it:", sent.Wait(ctx) == nil)
	// Output:
	// plant/7/temp 21.5 <nil>
	// the server has it: true
}

// The context given to Connect scopes the Conn: its end closes it. The time for
// connecting is an option.
func ExampleConnect() {
	memory, stop := inMemory()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background()) // of the program
	defer cancel()

	conn, err := mqtt.Connect(ctx, "mqtt://user:secret@localhost:1883",
		mqtt.WithClientID("billing-7"),
		mqtt.WithConnectTimeout(3*time.Second),
		memory,
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(conn.ClientID(), conn.State(), conn.Version())

	cancel()
	<-conn.Done()
	fmt.Println(conn.Err())
	// Output:
	// billing-7 connected 5.0
	// mqtt: the context given to Connect ended (context canceled); it scopes the Conn, use WithConnectTimeout for the dial
}

// A Future tells what became of a publish, in a select or by Wait.
func ExampleConn_Publish() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	f := conn.Publish(ctx, mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.FloatPayload(21.5), QoS: 2})
	select {
	case <-f.Done():
		fmt.Println(f.Stage(), f.Err(), f.Result().Code)
	case <-conn.Done():
		log.Fatal(conn.Err())
	}

	// What cannot be sent is refused before any I/O.
	err = conn.Publish(ctx, mqtt.Message{Topic: "plant/+/temp"}).Err()
	fmt.Println(errors.Is(err, mqtt.ErrInvalid), err)
	// Output:
	// done <nil> Success
	// true mqtt: publish to "plant/+/temp": invalid topic "plant/+/temp": holds a wildcard (not sent)
}

// Many publishes share the window; wait for all of them at once.
func ExampleWaitAll() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	var futures []*mqtt.Future
	for n := range int64(1000) {
		futures = append(futures, conn.Publish(ctx, mqtt.Message{Topic: "counter", Payload: mqtt.IntPayload(n), QoS: 1}))
	}
	fmt.Println(mqtt.WaitAll(ctx, futures...), conn.Stats().Published)
	// Output: <nil> 1000
}

// TryPublish never waits, so that it may stand in a select loop.
func ExampleConn_TryPublish() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory, mqtt.WithQueue(1000, 0, mqtt.QueueFail))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	f := conn.TryPublish(mqtt.Message{Topic: "tick", QoS: 1})
	if errors.Is(f.Err(), mqtt.ErrQueueFull) {
		fmt.Println("shed")
	}
	fmt.Println(f.Wait(ctx))
	// Output: <nil>
}

// Messages come on a channel. It is closed when the subscription ends, and then
// Err says why.
func ExampleConn_Subscribe() {
	memory, stop := inMemory()
	defer stop()
	conn, err := mqtt.Connect(context.Background(), "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	ctx, cancel := context.WithCancel(context.Background()) // of the subscription
	defer cancel()
	sub, err := conn.Subscribe(ctx, "plant/+/temp", mqtt.QoS(2))
	if err != nil {
		log.Fatal(err)
	}
	conn.Publish(ctx, mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.FloatPayload(21.5), QoS: 1})
	for m := range sub.C() {
		fmt.Printf("%s: %s at QoS %d\n", m.Topic, m.Payload, m.QoS)
		cancel()
	}
	fmt.Println(errors.Is(sub.Err(), context.Canceled))
	// Output:
	// plant/7/temp: 21.5 at QoS 1
	// true
}

// Several filters make one subscription, with the server's answer to each.
func ExampleConn_SubscribeMany() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	sub, err := conn.SubscribeMany(ctx, []mqtt.Filter{{Pattern: "alarm/#", QoS: 2}, {Pattern: "plant/+/temp", QoS: 0}})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range sub.Results() {
		fmt.Println(r.Filter, r.Granted, r.Err)
	}
	fmt.Println(sub.Unsubscribe(ctx), sub.Err())
	// Output:
	// alarm/# 2 <nil>
	// plant/+/temp 0 <nil>
	// <nil> mqtt: unsubscribed
}

// All acknowledges each message after the body of the loop.
func ExampleSubscription_All() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	sub, err := conn.Subscribe(ctx, "jobs")
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range []string{"wash", "rinse", "spin"} {
		conn.Publish(ctx, mqtt.Message{Topic: "jobs", Payload: mqtt.TextPayload(job), QoS: 1})
	}
	for m := range sub.All() {
		fmt.Println(string(m.Payload))
		if string(m.Payload) == "spin" {
			break // ends the loop, not the subscription
		}
	}
	// Output:
	// wash
	// rinse
	// spin
}

// Handle calls a function for each message and acknowledges when it returns.
func ExampleSubscription_Handle() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	sub, err := conn.Subscribe(ctx, "jobs", mqtt.WithWorkers(1))
	if err != nil {
		log.Fatal(err)
	}
	handled := make(chan struct{})
	err = sub.Handle(func(m mqtt.Message) {
		fmt.Println(string(m.Payload))
		close(handled)
	})
	if err != nil {
		log.Fatal(err)
	}
	conn.Publish(ctx, mqtt.Message{Topic: "jobs", Payload: mqtt.TextPayload("wash"), QoS: 1})
	<-handled
	// Output: wash
}

// With manual acknowledgement a message is the server's until Ack.
func ExampleMessage_Ack() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	sub, err := conn.Subscribe(ctx, "orders", mqtt.QoS(1), mqtt.WithManualAck())
	if err != nil {
		log.Fatal(err)
	}
	conn.Publish(ctx, mqtt.Message{Topic: "orders", Payload: mqtt.TextPayload("42"), QoS: 1})
	m := <-sub.C()
	// ... the order is in the database ...
	fmt.Println(m.Ack())
	fmt.Println(errors.Is(m.Ack(), mqtt.ErrStale))
	// Output:
	// <nil>
	// true
}

// A payload that cannot be decoded comes as a value with its error.
func ExampleSubscribeAs() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	type reading struct{ Celsius float64 }
	readings, err := mqtt.SubscribeAs(ctx, conn, "plant/+/temp", mqtt.JSON[reading]())
	if err != nil {
		log.Fatal(err)
	}
	conn.Publish(ctx, mqtt.Message{Topic: "plant/7/temp", Payload: []byte(`{"Celsius": 21.5}`), QoS: 1})
	conn.Publish(ctx, mqtt.Message{Topic: "plant/8/temp", Payload: []byte(`warm`), QoS: 1})
	for range 2 {
		r := <-readings.C()
		fmt.Println(r.Value.Celsius, r.Err)
	}
	// Output:
	// 21.5 <nil>
	// 0 mqtt: payload on "plant/8/temp": invalid character 'w' looking for beginning of value
}

// Events tell what happens to the connection. Nothing waits for their reader.
func ExampleConn_Events() {
	memory, stop := inMemory()
	defer stop()
	conn, err := mqtt.Connect(context.Background(), "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	conn.Close()

	for ev := range conn.Events() { // closed behind Closed
		switch ev := ev.(type) {
		case mqtt.Connecting:
			fmt.Println("connecting in", ev.Version)
		case mqtt.Connected:
			fmt.Println("connected, session present:", ev.SessionPresent)
		case mqtt.Disconnected:
			fmt.Println("disconnected:", ev.Err)
		case mqtt.Closed:
			fmt.Println("closed:", ev.Err)
		}
	}
	// Output:
	// connecting in 5.0
	// connected, session present: false
	// disconnected: mqtt: connection closed
	// closed: mqtt: connection closed
}

// The server publishes the will when the client goes without a DISCONNECT.
func ExampleWithWill() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	watcher, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory)
	if err != nil {
		log.Fatal(err)
	}
	defer watcher.Close()
	states, err := watcher.Subscribe(ctx, "plant/7/state")
	if err != nil {
		log.Fatal(err)
	}

	plant, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory, mqtt.WithWill(mqtt.Will{
		Message: mqtt.Message{Topic: "plant/7/state", Payload: mqtt.TextPayload("lost"), QoS: 1},
	}))
	if err != nil {
		log.Fatal(err)
	}
	plant.Abort() // as a crash would
	fmt.Println(string((<-states.C()).Payload))
	// Output: lost
}

// Subscriptions that are declared at Connect are there before the first message
// of a kept session.
func ExampleWithSubscription() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory,
		mqtt.WithClientID("store"),
		mqtt.WithSession(24*time.Hour),
		mqtt.WithSubscription("orders/+", mqtt.QoS(2)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	orders := conn.Subscription("orders/+")
	<-orders.Ready()
	fmt.Println(orders.Granted(), orders.Err())
	// Output: 2 <nil>
}

// What matches no subscription comes out of the catch-all.
func ExampleConn_CatchAll() {
	memory, stop := inMemory()
	defer stop()
	ctx := context.Background()
	conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", memory, mqtt.WithCatchAll())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	rest := conn.CatchAll()
	fmt.Println(rest.Err(), len(rest.Filters()))
	// Output: <nil> 0
}

// Credentials that expire are fetched before every attempt to connect.
func ExampleWithCredentialsFunc() {
	memory, stop := inMemory()
	defer stop()
	token := func(context.Context) (string, error) { return "eyJhbGciOi...", nil }

	conn, err := mqtt.Connect(context.Background(), "mqtt://localhost:1883", memory,
		mqtt.WithCredentialsFunc(func(ctx context.Context) (mqtt.Credentials, error) {
			t, err := token(ctx)
			user := "device-7"
			return mqtt.Credentials{Username: &user, Password: []byte(t)}, err
		}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(conn.Close())
	// Output: <nil>
}

func ExampleMatch() {
	fmt.Println(mqtt.Match("sport/+/player1", "sport/tennis/player1"))
	fmt.Println(mqtt.Match("sport/#", "sport"))
	fmt.Println(mqtt.Match("#", "$SYS/uptime"))
	// Output:
	// true
	// true
	// false
}
