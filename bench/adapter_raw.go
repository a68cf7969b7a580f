package main

import (
	"context"

	"github.com/millrace/mqtt/bench/raw"
)

// rawClient is the limit, with a channel send for each message or without.
type rawClient struct{ c *raw.Client }

func dialRaw(hop bool) func(context.Context, string, string) (client, error) {
	return func(_ context.Context, addr, clientID string) (client, error) {
		c, err := raw.Dial(addr, clientID, hop)
		if err != nil {
			return nil, err
		}
		return rawClient{c}, nil
	}
}

func (r rawClient) publish(_ context.Context, m message, n, window int) error {
	return r.c.Publish(raw.Message{Topic: m.topic, Payload: len(m.payload), QoS: m.qos}, n, window)
}

func (r rawClient) publishWait(_ context.Context, m message) error {
	return r.c.PublishWait(raw.Message{Topic: m.topic, Payload: len(m.payload), QoS: 1})
}

func (r rawClient) receive(_ context.Context, filter string, qos byte, n int) error {
	return r.c.Receive(filter, qos, n)
}

// idle is what the idle scenario runs instead of a client's own goroutines.
func (r rawClient) idle() { r.c.Idle() }

func (r rawClient) close() error { return r.c.Close() }
