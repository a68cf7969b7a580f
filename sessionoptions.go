package mqtt

import (
	"time"

	"github.com/millrace/mqtt/store"
)

// This file has the options of the session: how long the server keeps it, what a store
// keeps of it here, and which subscriptions it has from the beginning.

// WithSession asks the server to keep the session for d after a link ends
// (whole seconds, rounded up; 3.x servers decide by themselves for how long). From
// 4,294,967,295 s on, 136 years, as math.MaxInt64 is, it does not expire (section
// 3.1.2.11.2). It sets Clean Start and Session Expiry Interval, or Clean Session,
// right for each version. It needs a client identifier of your own.
func WithSession(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) {
		if d <= 0 {
			c.errs = append(c.errs, invalid("session duration", d.String(), "must be above 0; leave the option out for a clean session"))
		}
		c.session = neverFrom(d)
	})
}

// WithStore keeps the session in s, so that it outlives the process: messages
// accepted and not through, and open inbound QoS 2 exchanges (section 4.1). It
// needs [WithSession] and [WithClientID]. Connect opens the session, and fails
// before dialling when that is not possible; the end of the Conn closes it.
//
// A QoS 1 or 2 message is safe from a crash when its Future shows [StageStored].
// It is then never sent before it is durable. The store's own limits, if it has
// any, take the place of those of [WithQueue]. Acknowledgements of QoS 0 need no
// store, so QoS 0 messages are not kept in it.
func WithStore(s store.Store) ConnectOption { return connectFunc(func(c *config) { c.store = s }) }

// WithStoreMemory sets how many bytes of payloads that wait in the queue stay in
// memory besides being in the session store; beyond it they live in the store
// alone. The default is 16 MiB; 0 keeps none.
func WithStoreMemory(bytes int) ConnectOption {
	return connectFunc(func(c *config) {
		if bytes < 0 {
			c.errs = append(c.errs, invalid("store memory", "", "must not be negative"))
		}
		c.storeMemory = bytes
	})
}

// WithInbox keeps QoS 1 and 2 messages that arrive in the session store until the
// application has acknowledged them: by [Message.Ack], at the end of a handler's or a
// loop's body, or by delivery into a channel without [WithManualAck]. It needs
// [WithStore]. The server is answered, and the message handed out, when the message is
// durable, so that a session which the server loses takes nothing with it.
//
// After a crash the next Connect with this option hands out again what was not
// acknowledged, in the order of arrival and before newer messages. Such a message has the
// [Message.InboxKey] that it had before, and [Message.Redelivered] returns true. An
// application that remembers the keys of finished work does each QoS 2 message exactly
// once; a QoS 1 message that the server sends again after a crash has a new key.
//
// What a subscription has not handed over when it ends goes to the next subscription of
// its filters, in this process or a later one. To give it up, unsubscribe, or take
// [WithUnsubscribeAtEnd].
//
// An application that falls behind holds the server up in the end: the link is not read
// while the limits of [WithPendingLimit] are exceeded, nor while 65,536 messages or 64 MiB,
// or as much as those limits if they are higher, are handed out and not acknowledged. A
// subscription that makes no progress then ends, see [WithStuckAfter]. When the store fails, nothing of the failed commit
// is acknowledged, and the link ends so that the server sends it again. QoS 0 messages are
// not stored, and may overtake others.
//
// docs/durability.md says which subscription gets which message, and what a crash leaves.
func WithInbox() ConnectOption { return connectFunc(func(c *config) { c.inbox = true }) }

// WithFreshStart makes the server discard an earlier session of this client
// identifier on the first connect. On 3.x, where Clean Session never changes,
// that takes a connection of its own before it. When the CONNECT behind it is
// refused or cut, as services do that take one a second, it is sent again a second
// later within the same attempt; so is the CONNECT of an older version behind one
// whose version was refused.
func WithFreshStart() ConnectOption { return connectFunc(func(c *config) { c.fresh = true }) }

// WithBacklogGrace sets how long QoS 1 and 2 messages are held, unacknowledged,
// for a Subscribe that may come: what a resumed session brings and no
// subscription nor catch-all takes, from CONNACK on, and what is pending and
// arrives for a filter whose subscription was detached from a kept session. A
// Subscribe gets what matches it, in order, before anything newer; the rest is
// acknowledged when the time is over, and reported by [MessageUnmatched] or
// [MessageDropped] events. The default is 10 s, negative holds nothing.
//
// The Receive Maximum bounds what is held on MQTT 5. At 65,536 messages (3.x) or
// 64 MiB the link is not read until a Subscribe made room or the time is over.
// A link that is lost meanwhile loses nothing: the time begins anew with the next.
func WithBacklogGrace(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.backlogGrace, d) })
}

// WithResubscribeOnReconnect sends every SUBSCRIBE again on each new link, also when
// the server resumed the session.
func WithResubscribeOnReconnect() ConnectOption {
	return connectFunc(func(c *config) { c.resubscribeAlways = true })
}

// WithSubscription declares a subscription before the first link, so that it
// takes the messages of a resumed session from the first on, at every QoS. [Conn.Subscription] returns it
// by its filter.
func WithSubscription(filter string, opts ...SubscribeOption) ConnectOption {
	return connectFunc(func(c *config) {
		o := newSubOptions(opts)
		c.declared = append(c.declared, declaration{[]Filter{{Pattern: filter, QoS: o.qos}}, o})
	})
}

// WithCatchAll opens the catch-all subscription before the first link; see
// [Conn.CatchAll].
func WithCatchAll(opts ...SubscribeOption) ConnectOption {
	return connectFunc(func(c *config) {
		o := newSubOptions(opts)
		if o.err != nil {
			c.errs = append(c.errs, o.err)
		}
		c.catchAll = &o
	})
}
