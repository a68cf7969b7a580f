package mqtt

import "context"

// This file has the calls to publish. outgoing.go checks the message, and outbound.go
// sends or queues it.

// Publish sends m, or queues it while the window is full or there is no link (see
// [WithMaxInflight] and [WithQueue]). It returns a Future, never nil, that reports the
// result. For a message that is not valid, and for QoS 0 without a link (see
// [WithQueuedQoS0]), the Future has failed already, with an *[InvalidError] or
// [ErrNotConnected].
//
// The context bounds only the wait for a place in the queue, when the queue is at its
// limit and its policy is [QueueWait]. The exchange of a message that was accepted goes on
// when ctx ends. When ctx has ended before, the message is not accepted, and the Future
// fails with the context's cause. The payload may be reused when Publish returns, unless
// it was given away with [Message.GiveAway].
func (c *Conn) Publish(ctx context.Context, m Message) *Future {
	return c.out.publish(ctx, &m, true)
}

// TryPublish is Publish that never waits: where Publish would, the Future fails
// with [ErrQueueFull].
func (c *Conn) TryPublish(m Message) *Future {
	return c.out.publish(context.Background(), &m, false)
}

// Lookup returns the Future of the unresolved message that was published with key (see
// [Properties]), by this process or, with a session store, by an earlier one. It returns
// nil when there is none: the message was delivered, or failed, or was never stored.
func (c *Conn) Lookup(key string) *Future { return c.out.lookup(key) }

// Flush waits until all messages that were accepted so far are resolved. When ctx ends
// first it returns the context's cause.
func (c *Conn) Flush(ctx context.Context) error {
	select {
	case <-c.out.flush():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
