package mqtt

import "github.com/millrace/mqtt/codec"

// This file has the small types of the protocol that the API uses.

// Version is a version of the protocol.
type Version = codec.Version

// The protocol versions.
const (
	V31  = codec.V31  // MQTT 3.1, protocol level 3
	V311 = codec.V311 // MQTT 3.1.1, protocol level 4
	V5   = codec.V5   // MQTT 5.0, protocol level 5
)

// QoS is a quality of service: 0 at most once, 1 at least once, 2 exactly once
// (section 4.3). As a [SubscribeOption] it is the maximum at which the server
// may send to that subscription.
//
// It is a number, and prints as one.
type QoS byte

// UserProperty is a name and a value that travel with an MQTT 5 packet. Names
// may repeat and the order is kept (section 3.3.2.3.7). It is the type of package codec,
// and has two fields:
//
//	type UserProperty struct {
//		Key   string // the name
//		Value string // what it is set to
//	}
//
// No field will be added.
type UserProperty = codec.UserProperty
