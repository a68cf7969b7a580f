package mqtt_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// Work is done once for each message of QoS 2, whenever the process dies: the
// message comes again until it is acknowledged, with a key by which the application
// knows what it has done. Here the store is in memory; store/bolt has a durable one.
func ExampleWithInbox() {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	defer srv.Close()
	ctx, sessions := context.Background(), store.NewMemory()
	process := func() (*mqtt.Conn, *mqtt.Subscription) {
		conn, err := mqtt.Connect(ctx, "mqtt://localhost:1883", mqtt.WithDialer(network.Dial),
			mqtt.WithClientID("billing"),
			mqtt.WithSession(24*time.Hour),
			mqtt.WithStore(sessions),
			mqtt.WithInbox(),
			mqtt.WithSubscription("orders", mqtt.QoS(2), mqtt.WithManualAck()),
		)
		if err != nil {
			log.Fatal(err)
		}
		orders := conn.Subscription("orders")
		<-orders.Ready()
		return conn, orders
	}
	done := map[uint64]bool{} // kept where the work leaves its result, in the same transaction
	work := func(order mqtt.Message) {
		if order.Redelivered() && done[order.InboxKey()] {
			fmt.Println("done already:", string(order.Payload))
			return
		}
		done[order.InboxKey()] = true
		fmt.Println("done:", string(order.Payload))
	}

	conn, orders := process()
	if err := conn.Publish(ctx, mqtt.Message{Topic: "orders", Payload: []byte("two bolts"), QoS: 2}).Wait(ctx); err != nil {
		log.Fatal(err)
	}
	work(<-orders.C())
	conn.Abort() // the process dies before it acknowledges

	conn, orders = process()
	defer conn.Close()
	order := <-orders.C()
	work(order)
	if err := order.Ack(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// done: two bolts
	// done already: two bolts
}
