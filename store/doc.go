// Package store says where a client keeps its session, so that it outlives the
// process: what was accepted for sending and is not through, which inbound QoS 2
// packet identifiers are open, and, with an inbox, which messages the
// application has not acknowledged (section 4.1 of the standard).
//
// A [Store] holds the sessions of any number of clients, one for each client
// identifier [MQTT-3.1.3-2]. [Memory] is one that ends with the process; module
// github.com/millrace/mqtt/store/bolt holds one on disk. Package storetest
// checks that a Store keeps what this package promises.
package store
