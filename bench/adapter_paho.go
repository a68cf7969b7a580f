package main

import (
	"context"
	"errors"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// pahoClient is github.com/eclipse/paho.mqtt.golang on 3.1.1, its default.
type pahoClient struct {
	c        paho.Client
	messages chan paho.Message
}

// pahoTimeout bounds each wait for a token, which takes no context.
const pahoTimeout = 30 * time.Second

var errPahoTimeout = errors.New("paho: token timed out")

func dialPaho(_ context.Context, addr, clientID string) (client, error) {
	return connectPaho(pahoOptions(addr, clientID))
}

// durablePaho keeps messages in its FileStore, which does not sync.
func durablePaho(dir string) dialer {
	return func(_ context.Context, addr, clientID string) (client, error) {
		return connectPaho(pahoOptions(addr, clientID).SetCleanSession(false).SetStore(paho.NewFileStore(dir)))
	}
}

func pahoOptions(addr, clientID string) *paho.ClientOptions {
	return paho.NewClientOptions().
		AddBroker("tcp://" + addr).
		SetClientID(clientID).
		SetAutoReconnect(false).
		SetProtocolVersion(4)
}

func connectPaho(options *paho.ClientOptions) (client, error) {
	p := &pahoClient{c: paho.NewClient(options), messages: make(chan paho.Message, 256)}
	if err := pahoWait(p.c.Connect()); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pahoClient) publish(_ context.Context, m message, n, window int) error {
	if m.qos == 0 {
		for range n - 1 {
			p.c.Publish(m.topic, 0, false, m.payload)
		}
		return pahoWait(p.c.Publish(m.topic, 0, false, m.payload))
	}
	tokens := make([]paho.Token, window) // the oldest is waited for when all are taken
	for i := range n {
		slot := &tokens[i%window]
		if err := pahoWait(*slot); err != nil {
			return err
		}
		*slot = p.c.Publish(m.topic, m.qos, false, m.payload)
	}
	for _, token := range tokens {
		if err := pahoWait(token); err != nil {
			return err
		}
	}
	return nil
}

func (p *pahoClient) publishWait(_ context.Context, m message) error {
	return pahoWait(p.c.Publish(m.topic, 1, false, m.payload))
}

func (p *pahoClient) receive(ctx context.Context, filter string, qos byte, n int) error {
	handler := func(_ paho.Client, m paho.Message) { p.messages <- m }
	if err := pahoWait(p.c.Subscribe(filter, qos, handler)); err != nil {
		return err
	}
	return drain(ctx, p.messages, n)
}

func (p *pahoClient) close() error {
	p.c.Disconnect(0)
	return nil
}

func pahoWait(token paho.Token) error {
	if token == nil {
		return nil
	}
	if !token.WaitTimeout(pahoTimeout) {
		return errPahoTimeout
	}
	return token.Error()
}

// drain takes n messages.
func drain[M any](ctx context.Context, messages <-chan M, n int) error {
	for range n {
		select {
		case <-messages:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
