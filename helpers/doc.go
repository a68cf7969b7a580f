// Package helpers has one-shot functions for scripts and small programs: they
// connect, publish or receive, and disconnect.
//
// [PublishOne] and [PublishAll] return when the server has the messages.
// [Receive] returns n messages. [Handle] calls a function for each message until
// it is stopped. All take the options of [mqtt.Connect], and all stop when their
// context ends, whatever they are doing.
//
// A program that does more than one of these keeps a [mqtt.Conn] instead: a
// connection for each message costs far more than the message.
package helpers
