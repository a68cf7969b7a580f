package helpers_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/helpers"
	"github.com/millrace/mqtt/mqtttest/server"
)

// local starts a server in memory and returns the option that reaches it. A
// program of your own has a URL instead.
func local() (mqtt.ConnectOption, func()) {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	return mqtt.WithDialer(network.Dial), func() { srv.Close() }
}

func ExamplePublishOne() {
	option, stop := local()
	defer stop()

	m := mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.FloatPayload(21.5), QoS: 1}
	err := helpers.PublishOne(context.Background(), "mqtt://broker.example", m, option)
	fmt.Println(err)
	// Output: <nil>
}

func ExamplePublishAll() {
	option, stop := local()
	defer stop()

	err := helpers.PublishAll(context.Background(), "mqtt://broker.example", []mqtt.Message{
		{Topic: "plant/7/temp", Payload: mqtt.FloatPayload(21.5), QoS: 1},
		{Topic: "plant/7/#", QoS: 1},
	}, option)
	fmt.Println(err)
	// Output: mqtt: publish to "plant/7/#": invalid topic "plant/7/#": holds a wildcard (not sent)
}

func ExampleReceive() {
	option, stop := local()
	defer stop()
	ctx := context.Background()
	m := mqtt.Message{Topic: "plant/7/temp", Payload: mqtt.FloatPayload(21.5), QoS: 1, Retain: true}
	if err := helpers.PublishOne(ctx, "mqtt://broker.example", m, option); err != nil {
		log.Fatal(err)
	}

	what := helpers.Selection{Filters: []mqtt.Filter{{Pattern: "plant/+/temp", QoS: 1}}}
	messages, err := helpers.Receive(ctx, 1, "mqtt://broker.example", what, option)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s, retained: %t\n", messages[0].Topic, messages[0].Payload, messages[0].Retained())
	// Output: plant/7/temp: 21.5, retained: true
}

func ExampleHandle() {
	option, stop := local()
	defer stop()
	ctx := context.Background()
	m := mqtt.Message{Topic: "plant/7/state", Payload: mqtt.TextPayload("off"), QoS: 1, Retain: true}
	if err := helpers.PublishOne(ctx, "mqtt://broker.example", m, option); err != nil {
		log.Fatal(err)
	}

	errOff := errors.New("the plant is off")
	what := helpers.Selection{Filters: []mqtt.Filter{{Pattern: "plant/7/state", QoS: 1}}}
	err := helpers.Handle(ctx, func(m mqtt.Message) error {
		if string(m.Payload) == "off" {
			return errOff
		}
		fmt.Println("state:", string(m.Payload))
		return nil
	}, "mqtt://broker.example", what, option)
	fmt.Println(err)
	// Output: the plant is off
}
