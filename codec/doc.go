// Package codec turns MQTT packets into bytes and back, for MQTT 3.1, 3.1.1 and
// 5.0 and for both sides of a connection. It knows nothing of connections: what
// the bytes of one packet decide is decided here, what depends on the packets
// before it is the caller's.
//
// Encoders append to a slice of the caller's. Packets that a busy connection is
// full of (PUBLISH and its acknowledgements) have encoders that cannot fail and
// decoders that return views into the frame; both allocate nothing. The others
// own their memory, and their encoders refuse what a receiver would refuse.
// A field that a version does not have is not written in that version.
//
// A [Framer] cuts a byte stream into packets. Its memory follows the bytes that
// arrive, never the length that a header claims.
//
// Everything that goes wrong is an [*Error], which carries the reason code for
// the DISCONNECT that MQTT 5.0 wants. Sections and clauses such as
// [MQTT-3.3.2-2] in these documents are those of the MQTT 5.0 standard unless
// another version is named.
package codec
