// Command quickstart subscribes with a type, publishes at every QoS and prints
// what arrived, what became of each publish, and the events of the connection.
//
//	go run ./examples/quickstart
//	go run ./examples/quickstart -broker mqtt://test.mosquitto.org
package main

import (
	"context"
	"fmt"
	"io"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
)

// Reading is what the sensors of this plant publish.
type Reading struct {
	Celsius float64 `json:"celsius"`
}

func main() { program.Main("an MQTT server", run) }

func run(ctx context.Context, url string, w io.Writer) error {
	url, stop, err := broker.Or(url)
	if err != nil {
		return err
	}
	defer stop()

	conn, err := mqtt.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close()
	readings, err := mqtt.SubscribeAs(ctx, conn, "plant/+/temp", mqtt.JSON[Reading](), mqtt.QoS(2))
	if err != nil {
		return err
	}

	var futures []*mqtt.Future
	for qos := range mqtt.QoS(3) {
		m := mqtt.Message{Topic: fmt.Sprintf("plant/%d/temp", qos), QoS: qos}
		f := mqtt.PublishAs(ctx, conn, m, mqtt.JSON[Reading](), Reading{Celsius: 20.5 + float64(qos)})
		futures = append(futures, f)
	}
	for range futures {
		select {
		case r := <-readings.C():
			fmt.Fprintf(w, "arrived: %s at QoS %d: %+v, error %v\n", r.Msg.Topic, r.Msg.QoS, r.Value, r.Err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for qos, f := range futures {
		err := f.Wait(ctx)
		fmt.Fprintf(w, "published at QoS %d: error %v, result %+v\n", qos, err, f.Result())
	}

	if err := conn.Close(); err != nil {
		return err
	}
	for ev := range conn.Events() { // closed behind the last event
		fmt.Fprintf(w, "event: %T %s\n", ev, about(ev))
	}
	return nil
}

// about picks what is worth a line from an event.
func about(ev mqtt.Event) string {
	switch ev := ev.(type) {
	case mqtt.Connected:
		return fmt.Sprintf("as %q, MQTT %v", ev.ClientID, ev.Version)
	case mqtt.Disconnected:
		return ev.Err.Error()
	case mqtt.Closed:
		return ev.Err.Error()
	}
	return ""
}
