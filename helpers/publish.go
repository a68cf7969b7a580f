package helpers

import (
	"context"
	"errors"

	"github.com/millrace/mqtt"
)

// PublishOne connects to the server at url, publishes m and disconnects. It
// returns nil when the server has m, in the sense of [mqtt.Future].
//
// The context bounds all of it. The error is one of Connect, a
// *[mqtt.PublishError] that says whether the server may have m, or the cause of
// ctx.
func PublishOne(ctx context.Context, url string, m mqtt.Message, opts ...mqtt.ConnectOption) error {
	return PublishAll(ctx, url, []mqtt.Message{m}, opts...)
}

// PublishAll is [PublishOne] for several messages over one connection, in their
// order. One that fails does not stop the others; the errors are joined.
func PublishAll(ctx context.Context, url string, messages []mqtt.Message, opts ...mqtt.ConnectOption) (err error) {
	conn, err := mqtt.Connect(ctx, url, opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	futures := make([]*mqtt.Future, 0, len(messages))
	for _, m := range messages {
		futures = append(futures, conn.Publish(ctx, m))
	}
	return mqtt.WaitAll(ctx, futures...)
}
