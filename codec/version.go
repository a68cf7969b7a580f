package codec

// Version is a protocol level as it stands in CONNECT.
type Version byte

// The protocol versions that the codec speaks.
const (
	V31  Version = 3 // MQTT 3.1, protocol name "MQIsdp"
	V311 Version = 4 // MQTT 3.1.1, protocol name "MQTT"
	V5   Version = 5 // MQTT 5.0, protocol name "MQTT"
)

// String returns "3.1", "3.1.1" or "5.0", and "unknown version" for anything else.
func (v Version) String() string {
	switch v {
	case V31:
		return "3.1"
	case V311:
		return "3.1.1"
	case V5:
		return "5.0"
	}
	return "unknown version"
}

// Valid reports whether v is one of V31, V311 and V5.
func (v Version) Valid() bool { return v >= V31 && v <= V5 }

// protocolName is the first field of CONNECT, 3.1.2.1.
func (v Version) protocolName() string {
	if v == V31 {
		return "MQIsdp"
	}
	return "MQTT"
}
