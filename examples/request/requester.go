package main

import (
	"context"
	"strconv"
	"sync"

	"github.com/millrace/mqtt"
)

// requester sends requests and gives each its answer.
type requester struct {
	conn  *mqtt.Conn
	topic string // where answers come

	mu      sync.Mutex
	last    uint64
	pending map[string]chan mqtt.Message // by correlation data
}

// newRequester subscribes to topic, which must be the requester's own. It lives
// until ctx or conn ends.
func newRequester(ctx context.Context, conn *mqtt.Conn, topic string) (*requester, error) {
	r := &requester{conn: conn, topic: topic, pending: map[string]chan mqtt.Message{}}
	answers, err := conn.Subscribe(ctx, topic)
	if err != nil {
		return nil, err
	}
	return r, answers.Handle(r.answered)
}

// request publishes m and waits for its answer. When ctx ends first, the answer,
// should it still come, goes nowhere.
func (r *requester) request(ctx context.Context, m mqtt.Message) (mqtt.Message, error) {
	id, answer := r.open()
	defer r.close(id)
	m.Properties = &mqtt.Properties{ResponseTopic: r.topic, CorrelationData: []byte(id)}
	if err := r.conn.Publish(ctx, m).Wait(ctx); err != nil {
		return mqtt.Message{}, err
	}
	select {
	case a := <-answer:
		return a, nil
	case <-r.conn.Done():
		return mqtt.Message{}, r.conn.Err()
	case <-ctx.Done():
		return mqtt.Message{}, context.Cause(ctx)
	}
}

func (r *requester) open() (string, <-chan mqtt.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	id := strconv.FormatUint(r.last, 36)
	answer := make(chan mqtt.Message, 1) // so that answered never waits
	r.pending[id] = answer
	return id, answer
}

func (r *requester) close(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, id)
}

func (r *requester) answered(m mqtt.Message) {
	if m.Properties == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := string(m.Properties.CorrelationData)
	if answer := r.pending[id]; answer != nil {
		answer <- m
		delete(r.pending, id) // the first answer counts
	}
}
