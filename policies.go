package mqtt

// This file has the policies of which an option of the queue, the session or a subscription
// chooses one.

// LostPolicy says what becomes of a message that was in flight when the server
// lost the session.
type LostPolicy uint8

const (
	// LostDefault publishes QoS 1 anew and fails QoS 2.
	LostDefault LostPolicy = iota
	// LostPublish publishes the message as a new one, so that the server may have it
	// twice. A QoS 2 message that the server owned, since its PUBREC came, fails as
	// with LostFail.
	LostPublish
	// LostFail fails the Future with [ErrSessionLost]: the message may be lost.
	LostFail
)

// String names the policy.
func (p LostPolicy) String() string {
	return valueName("lost policy", uint8(p), "default", "publish", "fail")
}

// QueuePolicy says what Publish does when the outbound queue is at its limit.
type QueuePolicy uint8

const (
	// QueueWait waits for room until the context of Publish ends. TryPublish
	// fails with [ErrQueueFull]. While a link is up, Publish at QoS 0 waits also when
	// 512 KiB stand encoded before the line.
	QueueWait QueuePolicy = iota
	// QueueFail fails at once with [ErrQueueFull].
	QueueFail
	// QueueDropOldest drops the oldest messages not yet sent, whose Futures
	// fail with [ErrDropped].
	QueueDropOldest
	// QueueDropNewest drops the message being published; its Future fails with
	// [ErrDropped].
	QueueDropNewest
)

// String names the policy.
func (p QueuePolicy) String() string {
	return valueName("queue policy", uint8(p), "wait", "fail", "drop oldest", "drop newest")
}

// SlowPolicy says what a subscription does with messages that the application does not
// take in time.
type SlowPolicy uint8

const (
	// SlowHold holds QoS 1 and 2 messages without acknowledging them, so that the
	// server's Receive Maximum stops it in the end, and drops the oldest QoS 0
	// messages beyond the limit. While the QoS 1 and 2 messages alone exceed the limit
	// the link is not read; a subscription that makes no progress then ends, see
	// [WithStuckAfter].
	SlowHold SlowPolicy = iota
	// SlowDropNewest is SlowHold, but drops the newest QoS 0 message: the one that
	// arrives.
	SlowDropNewest
	// SlowLatest keeps only the latest message of each topic; those that it replaces
	// are acknowledged and counted as dropped.
	SlowLatest
	// SlowEvict ends the subscription with [ErrSlowConsumer] at the limit, instead of
	// pausing the link or dropping messages.
	SlowEvict
	// SlowBlock drops no message and does not end the subscription: at the limit the
	// link is not read until the application takes messages again.
	SlowBlock
)

// String names the policy.
func (p SlowPolicy) String() string {
	return valueName("slow policy", uint8(p), "hold", "drop newest", "latest", "evict", "block")
}

// queueConfig is what the options say about the outbound queue and window. It does not
// change.
type queueConfig struct {
	messages, bytes int
	policy          QueuePolicy
	keepQoS0        bool // queue QoS 0 while there is no link
	inflight3       int  // window on 3.x
	inflight5       int  // window on 5.0
	lost1, lost2    LostPolicy
}
