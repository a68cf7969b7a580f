package main

import (
	"context"
	"errors"

	"github.com/millrace/mqtt"
)

// message is what a scenario publishes over and over.
type message struct {
	topic   string
	payload []byte
	qos     byte
}

// client is an MQTT client under measurement, connected. Each adapter uses its
// client as its documentation says a fast program should.
type client interface {
	// publish publishes n messages from one goroutine, with at most window of
	// them unacknowledged at QoS 1 and 2, and returns when all are complete: at
	// QoS 0 when the client has let go of them, else when the last ack is in.
	// A client whose only publish call blocks may use window goroutines.
	publish(ctx context.Context, m message, n, window int) error
	// publishWait publishes one message at QoS 1 and waits for its ack. Several
	// goroutines may call it.
	publishWait(ctx context.Context, m message) error
	// receive subscribes, and returns when n messages have come out of a channel.
	receive(ctx context.Context, filter string, qos byte, n int) error
	// close ends the link and waits for the client's goroutines if it can.
	close() error
}

// adapter makes clients of one kind, for a server at host:port.
type adapter struct {
	name string
	dial dialer
	// durable makes one that keeps what it publishes in the directory dir until it
	// is through, nil when the client cannot.
	durable func(dir string) dialer
}

// dialer connects a client.
type dialer func(ctx context.Context, addr, clientID string) (client, error)

// committer is a client that says how often it has committed to its store.
type committer interface{ commits() uint64 }

// errUnsupported says that a scenario has no meaning for a client; the table
// shows a dash.
var errUnsupported = errors.New("not supported by this client")

// adapters lists the clients in the order of the table.
func adapters() []adapter {
	return []adapter{
		{"raw", dialRaw(false), nil},
		{"raw+hop", dialRaw(true), nil},
		{"millrace", dialMillrace(mqtt.V311), durableMillrace(mqtt.V311)},
		{"millrace-v5", dialMillrace(mqtt.V5), durableMillrace(mqtt.V5)},
		{"autopaho", dialAutopaho, durableAutopaho},
		{"paho.mqtt.golang", dialPaho, durablePaho},
	}
}

func adapterNames() []string {
	var names []string
	for _, a := range adapters() {
		names = append(names, a.name)
	}
	return names
}
