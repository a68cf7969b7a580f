package mqtt

import "context"

// This file is how the application publishes. From here the way goes on in
// outgoing.go, which checks the message, and in outbound.go.

// Publish sends m, or queues it while the window is full or there is no link.
// It returns a Future that reports what became of it, never nil. A message that
// is not valid, and a QoS 0 message without a link (see [WithQueuedQoS0]), are
// refused by a Future that has failed.
//
// The context bounds only the wait for a place in the queue when the queue is
// at its limit and its policy is to wait; once accepted, the exchange goes on
// whatever becomes of ctx. Under a context that has ended nothing is accepted:
// the Future fails with the context's cause. The payload may be reused when
// Publish returns, unless it was given away with [Message.GiveAway].
func (c *Conn) Publish(ctx context.Context, m Message) *Future {
	return c.out.publish(ctx, &m, true)
}

// TryPublish is Publish that never waits: where Publish would, the Future fails
// with [ErrQueueFull].
func (c *Conn) TryPublish(m Message) *Future {
	return c.out.publish(context.Background(), &m, false)
}

// Lookup returns the Future of the message in flight that was published with key
// (see [Properties]), by this process or, with a session store, by an earlier
// one; nil when there is none: it was delivered, or failed, or never stored.
func (c *Conn) Lookup(key string) *Future { return c.out.lookup(key) }

// Flush waits until everything accepted so far is resolved. The context bounds
// the wait.
func (c *Conn) Flush(ctx context.Context) error {
	select {
	case <-c.out.flush():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
