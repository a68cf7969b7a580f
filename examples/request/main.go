// Command request asks questions over MQTT 5: each request names a response
// topic and carries correlation data, and its context bounds the wait.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
)

func main() { program.Main("an MQTT 5 server", run) }

func run(ctx context.Context, url string, w io.Writer) error {
	url, stop, err := broker.Or(url)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := mqtt.Connect(ctx, url, mqtt.WithVersions(mqtt.V5))
	if err != nil {
		return err
	}
	defer conn.Close()

	service, err := conn.Subscribe(ctx, "service/square")
	if err != nil {
		return err
	}
	if err := service.Handle(func(m mqtt.Message) { square(ctx, conn, m) }); err != nil {
		return err
	}
	client, err := newRequester(ctx, conn, "reply/"+conn.ClientID())
	if err != nil {
		return err
	}

	answer, err := client.request(ctx, mqtt.Message{Topic: "service/square", Payload: mqtt.IntPayload(12), QoS: 1})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "12 squared is %s\n", answer.Payload)

	// Nobody serves this one: the context of the request ends the wait.
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = client.request(short, mqtt.Message{Topic: "service/none", QoS: 1})
	if !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a request without a responder ended with %w", err)
	}
	fmt.Fprintln(w, "service/none:", err)
	return conn.Close()
}

// square answers one request, where it asked for the answer.
func square(ctx context.Context, conn *mqtt.Conn, m mqtt.Message) {
	if m.Properties == nil || m.Properties.ResponseTopic == "" {
		return // a message, not a request
	}
	reply := mqtt.Message{
		Topic:      m.Properties.ResponseTopic,
		QoS:        1,
		Properties: &mqtt.Properties{CorrelationData: m.Properties.CorrelationData},
	}
	if n, err := strconv.ParseInt(string(m.Payload), 10, 64); err == nil {
		reply.Payload = mqtt.IntPayload(n * n)
	}
	conn.Publish(ctx, reply)
}
