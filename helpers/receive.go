package helpers

import (
	"context"

	"github.com/millrace/mqtt"
)

// Selection says which messages are wanted.
type Selection struct {
	// Filters are subscribed to together; there must be at least one.
	Filters []mqtt.Filter
	// SkipRetained leaves out messages that the server had retained before
	// (section 3.3.1.3).
	SkipRetained bool
}

// Receive connects to the server at url, takes the first n messages of what is
// selected, and disconnects. Messages beyond n are not acknowledged.
//
// The context bounds all of it. When it or the connection ends first, Receive
// returns the messages it has and the reason. Until then it reconnects as every
// [mqtt.Conn] does. A refused filter fails it with a *[mqtt.SubscribeError].
func Receive(ctx context.Context, n int, url string, what Selection, opts ...mqtt.ConnectOption) ([]mqtt.Message, error) {
	if n <= 0 {
		return nil, nil
	}
	messages := make([]mqtt.Message, 0, min(n, 1024))
	err := consume(ctx, url, what, func(m mqtt.Message) (bool, error) {
		messages = append(messages, m)
		return len(messages) < n, nil
	}, opts)
	return messages, err
}

// Handle connects to the server at url and calls handler for each message of
// what is selected, one after the other, until handler returns an error, which
// Handle returns, or the context or the connection ends. A message is
// acknowledged when handler has returned, with an error or not.
//
// Handle never returns nil: after the end of ctx it returns its cause.
func Handle(ctx context.Context, handler func(mqtt.Message) error, url string, what Selection, opts ...mqtt.ConnectOption) error {
	return consume(ctx, url, what, func(m mqtt.Message) (bool, error) {
		err := handler(m)
		return err == nil, err
	}, opts)
}

// consume calls take for each message until it says no, or something ends.
func consume(ctx context.Context, url string, what Selection, take func(mqtt.Message) (bool, error), opts []mqtt.ConnectOption) error {
	conn, err := mqtt.Connect(ctx, url, opts...)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The subscription ends with conn, not with ctx: a kept session keeps it.
	// Messages that a resumed session brings before it are held until then.
	sub, err := conn.SubscribeMany(context.WithoutCancel(ctx), what.Filters)
	if err != nil {
		return err
	}
	for m := range sub.All() {
		if what.SkipRetained && m.Retained() {
			continue
		}
		if more, err := take(m); !more {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return sub.Err()
}
