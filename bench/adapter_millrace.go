package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store/bolt"
)

// millraceClient is this module's client.
type millraceClient struct {
	c     *mqtt.Conn
	store *bolt.Store // nil when nothing is kept
}

// dialMillrace dials with the protocol version given, so that each is measured.
func dialMillrace(v mqtt.Version, opts ...mqtt.ConnectOption) dialer {
	return func(ctx context.Context, addr, clientID string) (client, error) {
		opts := append(opts, mqtt.WithClientID(clientID), mqtt.WithVersions(v),
			mqtt.WithMaxInflight(1000), mqtt.WithReceiveMaximum(1000))
		c, err := mqtt.Connect(ctx, "mqtt://"+addr, opts...)
		if err != nil {
			return nil, err
		}
		return &millraceClient{c: c}, nil
	}
}

// durableMillrace keeps the session in store/bolt, with its fsync, and what arrives too.
func durableMillrace(v mqtt.Version) func(string) dialer {
	return func(dir string) dialer {
		return func(ctx context.Context, addr, clientID string) (client, error) {
			st, err := bolt.Open(filepath.Join(dir, "session.db"))
			if err != nil {
				return nil, err
			}
			c, err := dialMillrace(v, mqtt.WithStore(st), mqtt.WithSession(time.Hour), mqtt.WithInbox())(ctx, addr, clientID)
			if err != nil {
				return nil, errors.Join(err, st.Close())
			}
			c.(*millraceClient).store = st
			return c, nil
		}
	}
}

// commits implements committer.
func (m *millraceClient) commits() uint64 {
	if m.store == nil {
		return 0
	}
	return uint64(m.store.Stats().Commits)
}

func (m *millraceClient) publish(ctx context.Context, msg message, n, window int) error {
	out := mqtt.Message{Topic: msg.topic, Payload: msg.payload, QoS: mqtt.QoS(msg.qos)}
	if msg.qos == 0 {
		var last *mqtt.Future
		for range n {
			last = m.c.Publish(ctx, out)
		}
		return last.Wait(ctx)
	}
	pending := make([]*mqtt.Future, window) // the oldest is waited for when all are in flight
	for i := range n {
		slot := &pending[i%window]
		if err := wait(ctx, *slot); err != nil {
			return err
		}
		*slot = m.c.Publish(ctx, out)
	}
	for _, f := range pending {
		if err := wait(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, f *mqtt.Future) error {
	if f == nil || f.Err() == nil {
		return nil
	}
	return f.Wait(ctx)
}

func (m *millraceClient) publishWait(ctx context.Context, msg message) error {
	return m.c.Publish(ctx, mqtt.Message{Topic: msg.topic, Payload: msg.payload, QoS: 1}).Wait(ctx)
}

func (m *millraceClient) receive(ctx context.Context, filter string, qos byte, n int) error {
	// The default drops QoS 0 that a consumer cannot keep up with; here every
	// message counts, so the link waits for the consumer, as the others' do.
	sub, err := m.c.Subscribe(ctx, filter, mqtt.QoS(qos), mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithPendingLimit(1024, 0))
	if err != nil {
		return err
	}
	for range sub.C() { // ends by the count, or with the Conn
		if n--; n == 0 {
			return nil
		}
	}
	return sub.Err()
}

func (m *millraceClient) close() error {
	err := m.c.Close()
	if m.store != nil {
		err = errors.Join(err, m.store.Close())
	}
	return err
}
