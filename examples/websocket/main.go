// Command websocket connects by WebSocket, with a header that is made anew for
// each attempt, as cloud services that sign their URLs or headers want it.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
	"github.com/millrace/mqtt/transport"
)

func main() { program.Main("an MQTT server, by ws or wss", run) }

func run(ctx context.Context, url string, w io.Writer) error {
	url, stop, err := broker.WebSocketOr(url)
	if err != nil {
		return err
	}
	defer stop()

	conn, err := mqtt.Connect(ctx, url, mqtt.WithHeaderFunc(sign))
	if err != nil {
		return err
	}
	defer conn.Close()
	sub, err := conn.Subscribe(ctx, "millrace/ws")
	if err != nil {
		return err
	}
	conn.Publish(ctx, mqtt.Message{Topic: "millrace/ws", Payload: []byte("framed"), QoS: 2})
	select {
	case m := <-sub.C():
		fmt.Fprintf(w, "by WebSocket: %s\n", m.Payload)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return conn.Close()
}

// sign stands in for the signature of a cloud service.
func sign(_ context.Context, u *transport.URL) (http.Header, error) {
	return http.Header{"X-Signature": {fmt.Sprintf("%s at %d", u, time.Now().Unix())}}, nil
}
