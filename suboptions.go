package mqtt

import (
	"math"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/match"
)

// SubscribeOption changes a subscription. [QoS] is one; the functions that return one are
// all the others. nil is refused with an [InvalidError].
type SubscribeOption interface {
	applySubscribe(*subOptions)
}

// subscribeFunc is a SubscribeOption made of a function.
type subscribeFunc func(*subOptions)

func (f subscribeFunc) applySubscribe(o *subOptions) { f(o) }

func (q QoS) applySubscribe(o *subOptions) { o.qos = q }

// subOptions is the result of the options of Subscribe.
type subOptions struct {
	qos       QoS
	noLocal   bool
	asPub     bool
	retain    byte
	retainSet bool
	buffer    int
	workers   int
	messages  int
	bytes     int
	slow      SlowPolicy
	manual    bool
	partial   bool
	async     bool
	atEnd     endAction
	start     consumerForm
	err       error // a nil option
}

// endAction says what the end of the context does to the subscription at the server.
type endAction uint8

const (
	endDefault     endAction = iota // unsubscribe, or detach when the session is durable
	endUnsubscribe                  // unsubscribe at once
	endDetach                       // leave the filters at the server
)

// defaultPending and defaultPendingBytes are the default limits of what waits for a
// subscription. A consumer reaches them only when it is slow for long.
const defaultPending, defaultPendingBytes = 65536, 64 << 20

func newSubOptions(opts []SubscribeOption) subOptions {
	o := subOptions{
		qos:      1,   // a maximum: the publisher's QoS decides below it
		buffer:   256, // what a crash can lose of acknowledged messages
		messages: defaultPending, bytes: defaultPendingBytes,
		workers: 1,
	}
	for _, opt := range opts {
		if q, pointer := opt.(*QoS); opt == nil || pointer && q == nil {
			o.err = nilOption()
			continue
		}
		opt.applySubscribe(&o)
	}
	return o
}

// WithNoLocal keeps the server from sending this Conn the messages that it published
// itself, MQTT 5 only (section 3.8.3.1). With a shared subscription it is an
// [InvalidError] [MQTT-3.8.3-4].
func WithNoLocal() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.noLocal = true }) }

// WithRetainAsPublished leaves the retain flag of forwarded messages as the
// publisher set it, MQTT 5 only (section 3.8.3.1).
func WithRetainAsPublished() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.asPub = true })
}

// WithRetainHandling says when the server sends retained messages: 0 at every subscribe, 1
// only at a new subscription, 2 never; any other value is an [InvalidError]. MQTT 5 only
// (section 3.8.3.1).
func WithRetainHandling(h byte) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.retain, o.retainSet = h, true })
}

// WithBuffer sets the capacity of the channel in messages, 256 by default; a negative
// value counts as 0. Messages in the channel count as delivered: a crash of the process
// can lose them.
func WithBuffer(n int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.buffer = max(n, 0) })
}

// WithWorkers lets n calls of a handler run at once, 1 by default; less than 1 counts as
// 1. With several the order of handling is not kept; acknowledgements still leave in
// order.
func WithWorkers(n int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.workers = max(n, 1) })
}

// WithPendingLimit sets how many messages, and how many bytes of them, may wait for the
// subscription besides the channel, 65,536 and 64 MiB by default. A message counts for its
// topic, payload and properties, for 96 bytes and, at QoS 1 and 2, for 128 more; properties
// count for 160 bytes and 32 for each user property besides their texts. That is at least
// half of the memory that it takes. 0 keeps a default, a negative value means no limit. The
// policy of [WithSlowPolicy] says what happens beyond.
func WithPendingLimit(messages, bytes int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) {
		setLimit(&o.messages, messages)
		setLimit(&o.bytes, bytes)
	})
}

// WithSlowPolicy sets what happens to messages that the application does not take in time.
// The default is [SlowHold]; a policy that does not exist is an [InvalidError].
func WithSlowPolicy(p SlowPolicy) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.slow = p })
}

// WithManualAck leaves acknowledging to the application, by [Message.Ack].
func WithManualAck() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.manual = true }) }

// WithPartialSuccess lets Subscribe succeed when the server refuses some of several
// filters, but not all; [Subscription.Results] has the result of each.
func WithPartialSuccess() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.partial = true })
}

// WithoutWaiting makes Subscribe return before the server has answered.
// [Subscription.Ready] and [Subscription.Err] report the result.
func WithoutWaiting() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.async = true }) }

// WithUnsubscribeAtEnd unsubscribes at the server when the context of Subscribe ends, also
// in a session that is kept.
func WithUnsubscribeAtEnd() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.atEnd = endUnsubscribe })
}

// WithDetachAtEnd leaves the filters at the server when the context of Subscribe ends. The
// messages that the subscription has not handed over wait for the next Subscribe of the
// filter, see [WithBacklogGrace]. When another subscription has the same filter it may
// have newer messages already: then they are acknowledged and counted instead, unless
// [WithInbox] keeps them.
func WithDetachAtEnd() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.atEnd = endDetach })
}

// WithImmediateDelivery starts delivery into the channel at once, before the first call of
// [Subscription.C].
func WithImmediateDelivery() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.start = formChannel })
}

// check returns what is wrong with subscribing to f, before any I/O.
func (o *subOptions) check(f Filter) error {
	if o.err != nil {
		return o.err
	}
	if err := codec.CheckTopicFilter(f.Pattern); err != nil {
		return invalid("filter", f.Pattern, problemOf(err))
	}
	switch {
	case f.QoS > 2:
		return invalid("QoS", "", "must be 0, 1 or 2")
	case o.retain > 2:
		return invalid("retain handling", "", "must be 0, 1 or 2")
	case o.noLocal && match.IsShared(f.Pattern):
		return invalid("filter", f.Pattern, "a shared subscription cannot have No Local [MQTT-3.8.3-4]")
	case o.slow > SlowBlock:
		return invalid("slow policy", "", "unknown")
	}
	return nil
}

// consumerForm is how a subscription is consumed.
type consumerForm uint8

const (
	formNone     consumerForm = iota // no consumer yet: messages stay pending, unacknowledged
	formChannel                      // C
	formTyped                        // C of a TypedSubscription
	formHandler                      // Handle
	formIterator                     // All
)

// setLimit sets *to to n. It keeps the default when n is 0; a negative n means no limit.
func setLimit(to *int, n int) {
	switch {
	case n > 0:
		*to = n
	case n < 0:
		*to = math.MaxInt
	}
}
