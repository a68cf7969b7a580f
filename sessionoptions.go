package mqtt

import (
	"time"

	"github.com/millrace/mqtt/store"
)

// This file has the options of the session: how long the server keeps it, the store
// that keeps it here, and which subscriptions it has from the beginning.

// WithSession asks the server to keep the session for d after a link ends (section
// 3.1.2.11.2). d must be above 0 and is rounded up to whole seconds; a session of
// 4,294,967,295 s (136 years) or more, such as math.MaxInt64, does not expire. The option
// sets Clean Start and Session Expiry Interval on MQTT 5, and Clean Session on 3.x, where
// the server decides how long it keeps the session.
//
// It needs [WithClientID], or [WithServerAssignedClientID] on MQTT 5 alone: with a
// generated client identifier no later process would find the session.
func WithSession(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) {
		if d <= 0 {
			c.errs = append(c.errs, invalid("session duration", d.String(), "must be above 0; leave the option out for a clean session"))
		}
		c.session = neverFrom(d)
	})
}

// WithStore keeps the client's part of the session in s (section 4.1), so that it outlives
// the process: QoS 1 and 2 messages that were accepted and are not resolved, and incoming
// QoS 2 exchanges that are open. It needs [WithSession] and [WithClientID]. Connect opens
// the session in the store before it dials, and fails with a *[StoreError] when that is
// not possible; the end of the Conn closes it.
//
// A QoS 1 or 2 message survives a crash once its Future shows [StageStored], and is not
// sent before. QoS 0 messages are not stored, since the server does not acknowledge them.
// The limits of the store, if it has any, replace those of [WithQueue].
func WithStore(s store.Store) ConnectOption { return connectFunc(func(c *config) { c.store = s }) }

// WithStoreMemory sets how many bytes of payloads that wait in the queue stay in memory
// besides being in the session store; the payloads beyond are in the store alone. The
// default is 16 MiB; 0 keeps none in memory, a negative value is an [InvalidError].
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
// [WithStore]. The library acknowledges a message to the server, and hands it out, once it
// is durable, so that a session which the server loses takes no message with it.
//
// After a crash the next Connect with this option hands out again the messages that were
// not acknowledged, in the order of arrival and before newer ones. Such a message has the
// [Message.InboxKey] that it had before, and [Message.Redelivered] returns true. An
// application that remembers the keys of finished work does each QoS 2 message exactly
// once; a QoS 1 message that the server sends again after a crash has a new key.
//
// Messages that a subscription has not handed over when it ends go to the next
// subscription of its filters, in this process or a later one. To give them up,
// unsubscribe, or take [WithUnsubscribeAtEnd].
//
// An application that falls behind holds the server up in the end: the link is not read
// while the limits of [WithPendingLimit] are exceeded, nor while 65,536 messages or 64 MiB,
// or as much as those limits if they are higher, are handed out and not acknowledged. A
// subscription that makes no progress then ends, see [WithStuckAfter]. When a commit of
// the store fails, none of its messages is acknowledged, and the link ends so that the
// server sends them again. QoS 0 messages are not stored, and may overtake others.
//
// docs/durability.md says which subscription gets which message, and what a crash leaves.
func WithInbox() ConnectOption { return connectFunc(func(c *config) { c.inbox = true }) }

// WithFreshStart makes the server discard an earlier session of this client identifier on
// the first connect. MQTT 5 does so by Clean Start. On 3.x, where Clean Session is the
// same on every link, a connection of its own with Clean Session 1 goes before it.
//
// Some services take one CONNECT a second. When the second CONNECT of an attempt is refused
// or cut, it is sent again a second later, once, within the same attempt: the one behind
// that connection, or that of an older version behind one whose version was refused.
func WithFreshStart() ConnectOption { return connectFunc(func(c *config) { c.fresh = true }) }

// WithBacklogGrace sets how long QoS 1 and 2 messages that no subscription takes are held,
// unacknowledged, for a Subscribe to come. They are the messages of a resumed session that
// neither a subscription nor the catch-all takes, counted from CONNACK, and those of a
// filter whose subscription was detached from a session that is kept: the ones that were
// pending then, and the ones that arrive afterwards. A Subscribe gets those that match its
// filters, in order, before any newer message. When the time is over the others are
// acknowledged, and [MessageUnmatched] or [MessageDropped] events report them. The default
// is 10 s; 0 keeps it, a negative value holds no message.
//
// The Receive Maximum bounds the number of messages held on MQTT 5. At 65,536 messages
// (3.x) or 64 MiB the link is not read until a Subscribe makes room or the time is over.
// When the link ends meanwhile no message is lost: the server sends them again, and the
// time begins anew with the next link.
func WithBacklogGrace(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.backlogGrace, d) })
}

// WithResubscribeOnReconnect sends a SUBSCRIBE for every subscription on each new link,
// also when the server resumed the session. Without it the library does so only when the
// server has no session.
func WithResubscribeOnReconnect() ConnectOption {
	return connectFunc(func(c *config) { c.resubscribeAlways = true })
}

// WithSubscription declares a subscription before the first link, so that it gets the
// messages of a resumed session from the first one on, at every QoS. [Conn.Subscription]
// returns it by its filter. A filter or an option that is not valid is an [InvalidError].
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
