package mqtt

// This file has the policies that the options of queue, session and subscription choose from.

// LostPolicy says what becomes of a message that was in flight when the server
// lost the session.
type LostPolicy uint8

const (
	// LostDefault publishes QoS 1 anew and fails QoS 2.
	LostDefault LostPolicy = iota
	// LostPublish publishes the message anew, as a new message: it may double. A
	// QoS 2 message that the server owned, since its PUBREC came, fails all the same.
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
	// fails with [ErrQueueFull].
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

// SlowPolicy says what a subscription does with messages that its consumer
// does not take in time.
type SlowPolicy uint8

const (
	// SlowHold holds QoS 1 and 2 without acknowledging them, so that the
	// server's window fills, and drops the oldest QoS 0 beyond the limit. A
	// subscription whose held QoS 1 and 2 pass the limit pauses the link, and is
	// ended when it makes no progress (see WithStuckAfter).
	SlowHold SlowPolicy = iota
	// SlowDropNewest is SlowHold, but drops the QoS 0 message that arrives.
	SlowDropNewest
	// SlowLatest keeps only the latest message of each topic; the replaced ones
	// are acknowledged and counted.
	SlowLatest
	// SlowEvict ends the subscription with [ErrSlowConsumer] at its limit, instead
	// of pausing the link or dropping messages.
	SlowEvict
	// SlowBlock drops nothing and ends nothing: at the limit the link is not
	// read until the consumer goes on.
	SlowBlock
)

// String names the policy.
func (p SlowPolicy) String() string {
	return valueName("slow policy", uint8(p), "hold", "drop newest", "latest", "evict", "block")
}

// queueConfig is the immutable part.
type queueConfig struct {
	messages, bytes int
	policy          QueuePolicy
	keepQoS0        bool // queue QoS 0 while offline
	inflight3       int  // window on 3.x
	inflight5       int  // window on 5.0
	lost1, lost2    LostPolicy
}
