package main

import (
	"context"
	"net/url"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"
)

// autopahoClient is github.com/eclipse/paho.golang's autopaho, on 5.0.
type autopahoClient struct {
	c        *autopaho.ConnectionManager
	messages chan *paho.Publish
}

func dialAutopaho(ctx context.Context, addr, clientID string) (client, error) {
	a := &autopahoClient{messages: make(chan *paho.Publish, 256)}
	config := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: "mqtt", Host: addr}},
		KeepAlive:                     60,
		CleanStartOnInitialConnection: true,
		ClientConfig: paho.ClientConfig{
			ClientID: clientID,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(r paho.PublishReceived) (bool, error) {
					a.messages <- r.Packet
					return true, nil
				},
			},
		},
	}
	c, err := autopaho.NewConnection(ctx, config)
	if err != nil {
		return nil, err
	}
	a.c = c
	return a, c.AwaitConnection(ctx)
}

// publish needs a goroutine for each message under way: Publish blocks until the
// exchange is complete, and nothing in autopaho tells of the end otherwise.
func (a *autopahoClient) publish(ctx context.Context, m message, n, window int) error {
	if m.qos == 0 {
		window = 1
	}
	workers, ctx := errgroup.WithContext(ctx)
	for w := range window {
		workers.Go(func() error { // ends with its share or the first error; Wait waits
			for range share(n, window, w) {
				if err := a.send(ctx, m, m.qos); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return workers.Wait()
}

func (a *autopahoClient) publishWait(ctx context.Context, m message) error {
	return a.send(ctx, m, 1)
}

func (a *autopahoClient) send(ctx context.Context, m message, qos byte) error {
	_, err := a.c.Publish(ctx, &paho.Publish{Topic: m.topic, QoS: qos, Payload: m.payload})
	return err
}

func (a *autopahoClient) receive(ctx context.Context, filter string, qos byte, n int) error {
	_, err := a.c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}})
	if err != nil {
		return err
	}
	return drain(ctx, a.messages, n)
}

func (a *autopahoClient) close() error { return a.c.Disconnect(context.Background()) }

// share is worker w's part of n things split over workers.
func share(n, workers, w int) int {
	part := n / workers
	if w < n%workers {
		part++
	}
	return part
}
