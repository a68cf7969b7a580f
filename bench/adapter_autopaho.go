package main

import (
	"context"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue"
	"github.com/eclipse/paho.golang/autopaho/queue/file"
	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"
)

// autopahoClient is github.com/eclipse/paho.golang's autopaho, on 5.0.
type autopahoClient struct {
	c        *autopaho.ConnectionManager
	messages chan *paho.Publish
	queue    *countedQueue // nil when nothing is kept
}

func dialAutopaho(ctx context.Context, addr, clientID string) (client, error) {
	return connectAutopaho(ctx, addr, clientID, nil)
}

// durableAutopaho publishes by way of its file queue, which does not sync.
func durableAutopaho(dir string) dialer {
	return func(ctx context.Context, addr, clientID string) (client, error) {
		q, err := file.New(dir, "queue", ".msg")
		if err != nil {
			return nil, err
		}
		return connectAutopaho(ctx, addr, clientID, &countedQueue{Queue: q})
	}
}

func connectAutopaho(ctx context.Context, addr, clientID string, q *countedQueue) (client, error) {
	a := &autopahoClient{queue: q, messages: make(chan *paho.Publish, 256)}
	config := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: "mqtt", Host: addr}},
		KeepAlive:                     60,
		CleanStartOnInitialConnection: q == nil,
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
	if q != nil {
		config.Queue = q // a nil pointer in the interface would be used
	}
	c, err := autopaho.NewConnection(ctx, config)
	if err != nil {
		return nil, err
	}
	a.c = c
	return a, c.AwaitConnection(ctx)
}

// publish needs a goroutine for each message in flight: Publish blocks until the
// exchange is complete, and nothing in autopaho tells of the end otherwise.
func (a *autopahoClient) publish(ctx context.Context, m message, n, window int) error {
	if a.queue != nil {
		return a.publishQueued(ctx, m, n)
	}
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

// publishQueued hands everything to the queue, which sends one message after the
// other, and waits until it is empty: nothing else tells of the end.
func (a *autopahoClient) publishQueued(ctx context.Context, m message, n int) error {
	for range n {
		p := &paho.Publish{Topic: m.topic, QoS: m.qos, Payload: m.payload}
		if err := a.c.PublishViaQueue(ctx, &autopaho.QueuePublish{Publish: p}); err != nil {
			return err
		}
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for a.queue.removed.Load() < int64(n) {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// countedQueue counts the messages that are through.
type countedQueue struct {
	*file.Queue
	removed atomic.Int64
}

// Peek implements queue.Queue.
func (q *countedQueue) Peek() (queue.Entry, error) {
	e, err := q.Queue.Peek()
	if err != nil {
		return nil, err
	}
	return countedEntry{e, q}, nil
}

type countedEntry struct {
	queue.Entry
	q *countedQueue
}

// Remove implements queue.Entry.
func (e countedEntry) Remove() error {
	err := e.Entry.Remove()
	e.q.removed.Add(1)
	return err
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
