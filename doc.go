// Package mqtt is a client for MQTT 5.0, 3.1.1 and 3.1 built on channels and
// contexts.
//
// [Connect] returns a [Conn] that outlives the network connections ("links")
// it makes: it reconnects, resumes its session and restores its subscriptions
// by itself. [Conn.Subscribe] yields a [Subscription] whose messages arrive on a
// channel, by an iterator or in a handler. [Conn.Publish] returns a [Future]
// that resolves once, and with nil only when the server has the message.
//
// # Contexts
//
// A context given to a constructor scopes what it constructs: the end of
// Connect's context closes the Conn, the end of Subscribe's context ends the
// subscription. A context given to a request bounds only that wait: the one
// given to Publish bounds the wait for a place in the queue, and nothing after
// it. This is therefore wrong, because it closes the Conn when the function
// returns:
//
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel()
//	return mqtt.Connect(ctx, url) // wrong: use mqtt.WithConnectTimeout
//
// # Publishing
//
// Publish checks the message, copies its payload and returns; the exchange goes
// on by itself, over reconnects too. Keep the Future to learn what became of it,
// or drop it: nothing leaks. Wait for each Future in turn only where each must be
// there before the next; publishing on and waiting later, by [WaitAll] or
// [Conn.Flush], is many times faster.
//
// # Delivery
//
// QoS 1 and 2 messages are acknowledged to the server when they have reached
// the application: in its channel, after the body of its loop or handler, or by
// [Message.Ack]. Acknowledgements leave in the order of arrival
// [MQTT-4.6.0-2], so a message that the application does not take holds back the
// acknowledgements behind it, and in the end the server's window. It never
// holds back publishes, pings, Subscribe or QoS 0 messages.
//
// # Reconnecting
//
// A Conn that was connected once reconnects until it is closed, or until trying
// again cannot help: another client took its session over. Channels stay open
// meanwhile, QoS 1 and 2 publishes wait, QoS 0 publishes fail with
// [ErrNotConnected]. [Conn.Events] reports it. A session is kept over
// reconnects with [WithSession]; without it the server forgets what it had for
// this client, and the subscriptions are made again.
//
// # Errors
//
// States are sentinels for [errors.Is]: [ErrClosed], [ErrQueueFull] and the like.
// What a server refused is a *[ReasonError], what the caller gave wrongly an
// *[InvalidError], a failed publish a *[PublishError] that says whether the
// server may have the message. No error shows a password.
//
// # Compatibility
//
// Structs may gain fields: build them with field names, and compare fields instead of
// whole structs. Events and options may be added. Interfaces that an application implements gain no methods: [Codec],
// backoff.Policy, store.Store and store.Session. Options and events are interfaces that
// only this package implements.
package mqtt
