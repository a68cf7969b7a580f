package mqtt

import (
	"math"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/match"
)

// SubscribeOption changes a subscription. [QoS] is one, and the functions that return
// one are all others; nil is refused with an [InvalidError].
type SubscribeOption interface {
	applySubscribe(*subOptions)
}

// subscribeFunc is a SubscribeOption made of a function.
type subscribeFunc func(*subOptions)

func (f subscribeFunc) applySubscribe(o *subOptions) { f(o) }

func (q QoS) applySubscribe(o *subOptions) { o.qos = q }

// subOptions is what the options of Subscribe come to.
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

// endAction is what the end of the context does at the server.
type endAction uint8

const (
	endDefault     endAction = iota // unsubscribe, or detach when the session is durable
	endUnsubscribe                  // unsubscribe at once
	endDetach                       // leave it at the server
)

// defaultPending and defaultPendingBytes are what may wait for a subscription: only
// a really slow reader meets them.
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

// WithNoLocal keeps messages that this Conn published from coming back, MQTT 5
// only (section 3.8.3.1).
func WithNoLocal() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.noLocal = true }) }

// WithRetainAsPublished leaves the retain flag of forwarded messages as the
// publisher set it, MQTT 5 only (section 3.8.3.1).
func WithRetainAsPublished() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.asPub = true })
}

// WithRetainHandling says when the server sends retained messages: 0 at every
// subscribe, 1 only at a new subscription, 2 never; MQTT 5 only (section 3.8.3.1).
func WithRetainHandling(h byte) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.retain, o.retainSet = h, true })
}

// WithBuffer sets the capacity of the channel, 256 by default. Messages in it
// count as delivered: a crash of the process can lose them.
func WithBuffer(n int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.buffer = max(n, 0) })
}

// WithWorkers lets n bodies of a handler run at once, which gives up the order
// of handling; acknowledgements still leave in order.
func WithWorkers(n int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.workers = max(n, 1) })
}

// WithPendingLimit sets how many messages and bytes may be pending besides the
// channel, 65,536 and 64 MiB by default; 0 keeps a default.
func WithPendingLimit(messages, bytes int) SubscribeOption {
	return subscribeFunc(func(o *subOptions) {
		setLimit(&o.messages, messages)
		setLimit(&o.bytes, bytes)
	})
}

// WithSlowPolicy sets what happens to messages that are not taken in time.
func WithSlowPolicy(p SlowPolicy) SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.slow = p })
}

// WithManualAck leaves acknowledging to [Message.Ack].
func WithManualAck() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.manual = true }) }

// WithPartialSuccess accepts that the server refuses some of several filters; the
// results are in [Subscription.Results].
func WithPartialSuccess() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.partial = true })
}

// WithoutWaiting makes Subscribe return at once; [Subscription.Ready] and
// [Subscription.Err] report the result.
func WithoutWaiting() SubscribeOption { return subscribeFunc(func(o *subOptions) { o.async = true }) }

// WithUnsubscribeAtEnd unsubscribes at the server when the context ends, also
// in a session that is kept.
func WithUnsubscribeAtEnd() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.atEnd = endUnsubscribe })
}

// WithDetachAtEnd leaves the subscription at the server when the context ends.
// What it has not handed over waits for the next Subscribe of the filter, see
// [WithBacklogGrace]; beside another subscription of the filter, which may have
// newer messages, it is acknowledged and counted, unless [WithInbox] keeps it.
func WithDetachAtEnd() SubscribeOption {
	return subscribeFunc(func(o *subOptions) { o.atEnd = endDetach })
}

// WithImmediateDelivery starts delivery into the channel at once, before the first C().
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
	formNone     consumerForm = iota // messages are pending, unacknowledged
	formChannel                      // C
	formTyped                        // C of a TypedSubscription
	formHandler                      // Handle
	formIterator                     // All
)

// setLimit keeps the default for zero, and takes negative for no limit.
func setLimit(to *int, n int) {
	switch {
	case n > 0:
		*to = n
	case n < 0:
		*to = math.MaxInt
	}
}
