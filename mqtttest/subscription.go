package mqtttest

import (
	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/testhook"
)

// Feed is where the messages of a Subscription made by [NewSubscription] come
// from. Its methods may be called from any goroutine.
type Feed struct{ hook testhook.Subscription }

// NewSubscription returns a Subscription to filter, granted as the options ask,
// that no Conn feeds but the test. It is consumed, paused, acknowledged and
// unsubscribed like any other; there is no server that would hear of it. With a nil
// option it has ended with an *[mqtt.InvalidError].
func NewSubscription(filter string, opts ...mqtt.SubscribeOption) (*mqtt.Subscription, *Feed) {
	h := testhook.NewSubscription([]string{filter}, opts)
	return h.Subscription.(*mqtt.Subscription), &Feed{h}
}

// Send delivers m, and reports whether the Subscription took it: false when it
// has ended, or gave the message up because its consumer is slow. It never waits.
// The topic is not compared with the filter. A message with Retain set arrives as
// a retained one, [mqtt.Message.Retained].
func (f *Feed) Send(m mqtt.Message) bool { return f.hook.Deliver(m) }

// End ends the Subscription with err, which its Err returns then, as the loss of
// its Conn does: its channel closes, what it had not handed over is gone.
func (f *Feed) End(err error) { f.hook.End(err) }

// Acked returns how many messages of QoS 1 and 2 were acknowledged: to a server
// that many PUBACKs would have gone, in the order of arrival.
func (f *Feed) Acked() int { return f.hook.Acked() }
