// Package mqtttest helps to test programs that use package mqtt, without a
// broker, a port or real time.
//
// [Start] runs an MQTT server in memory and [Connect] connects a Conn to it. Both
// work inside a testing/synctest bubble, where keep alives, backoffs and expiries
// cost no time. Faults are put on the [Link] of a connection, answers are shaped
// by a [Config]; what the client sent is in the Server's log.
//
// Where not even a Conn is wanted, [ResolvedFuture], [PendingFuture], [NewFuture]
// and [NewSubscription] make the values that a Conn would return, in any state:
// a Future that fails as the test says, a Subscription that the test feeds.
//
// The server, the network and the raw-byte peer are those of package
// mqtttest/server, which has more of them than is named here and does not depend
// on package mqtt.
package mqtttest
