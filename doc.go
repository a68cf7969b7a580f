// Package mqtt is a client for MQTT 5.0, 3.1.1 and 3.1 built on channels and
// contexts.
//
// [Connect] returns a [Conn] that outlives the network connections ("links")
// it makes: it reconnects, resumes its session and restores its subscriptions
// by itself. [Conn.Subscribe] returns a [Subscription], whose messages arrive on a
// channel, by an iterator or in a handler. [Conn.Publish] returns a [Future]
// that resolves once, and with nil only when the server has the message.
//
// # Contexts
//
// The context given to a constructor lasts as long as its result may: the end of
// Connect's context closes the Conn, the end of Subscribe's context ends the
// subscription. The context given to a request bounds only that wait: Publish's
// bounds the wait for a place in the queue, and not the exchange that follows. So
// this is wrong, since it closes the Conn when the function returns:
//
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel()
//	return mqtt.Connect(ctx, url) // wrong: use mqtt.WithConnectTimeout
//
// # Publishing
//
// Publish checks the message, copies its payload and returns; the exchange with the
// server goes on, over reconnects too. The Future reports the result; a Future that is
// not used leaks nothing. Wait for a Future before the next Publish only where the
// server must have the first message before the second is sent; to publish on and wait
// later, by [WaitAll] or [Conn.Flush], is many times faster.
//
// # Delivery
//
// QoS 1 and 2 messages are acknowledged to the server when they have reached the
// application: when they are in its channel, after the body of its loop or handler,
// or by [Message.Ack]. Acknowledgements leave in the order of arrival [MQTT-4.6.0-2].
// So a message that the application does not take holds back the acknowledgements
// behind it, until the server may send no more QoS 1 and 2 messages. It never holds
// back publishes, pings, Subscribe or QoS 0 messages.
//
// # Reconnecting
//
// A Conn that was connected once reconnects until it is closed, or until another
// client took its session over; [WithErrorPolicy] has the rare other reasons to end.
// Between two links channels stay open, QoS 1 and 2 publishes wait, and QoS 0
// publishes fail with [ErrNotConnected]. [Conn.Events] reports each change. With
// [WithSession] the server keeps the session over reconnects; without it the server
// forgets the messages for this client, and the subscriptions are made again.
//
// # Errors
//
// States are sentinels for [errors.Is]: [ErrClosed], [ErrQueueFull] and the like. A
// refusal by the server is a *[ReasonError], an argument that is not valid an
// *[InvalidError], a failed publish a *[PublishError] that says whether the server
// may have the message. No error shows a password.
//
// # Compatibility
//
// Structs may gain fields: build them with field names, and compare fields instead of
// whole structs. Events and options may be added. The interfaces that an application
// implements gain no methods: [Codec], backoff.Policy, store.Store and store.Session.
// Options and events are interfaces that only this package implements.
package mqtt
