package mqtt

import "github.com/millrace/mqtt/codec"

// PacketType is the type of an MQTT control packet (section 2.1.2 of MQTT 5.0). Its method
// String returns the standard's name, such as "PUBLISH".
//
// It is the type of package codec, so that both may be compared.
type PacketType = codec.Type

// The types of control packets. AUTH exists in MQTT 5.0 only.
const (
	PacketConnect     PacketType = 1
	PacketConnack     PacketType = 2
	PacketPublish     PacketType = 3
	PacketPuback      PacketType = 4
	PacketPubrec      PacketType = 5
	PacketPubrel      PacketType = 6
	PacketPubcomp     PacketType = 7
	PacketSubscribe   PacketType = 8
	PacketSuback      PacketType = 9
	PacketUnsubscribe PacketType = 10
	PacketUnsuback    PacketType = 11
	PacketPingreq     PacketType = 12
	PacketPingresp    PacketType = 13
	PacketDisconnect  PacketType = 14
	PacketAuth        PacketType = 15
)
