package mqtt

import "github.com/millrace/mqtt/codec"

// Version is a version of the protocol.
type Version = codec.Version

// The protocol versions.
const (
	V31  = codec.V31  // MQTT 3.1, protocol level 3
	V311 = codec.V311 // MQTT 3.1.1, protocol level 4
	V5   = codec.V5   // MQTT 5.0, protocol level 5
)
