package codec

import "fmt"

// PropertyID identifies a property of MQTT 5.0, section 2.2.2.2.
type PropertyID byte

// The properties of MQTT 5.0.
const (
	PropPayloadFormatIndicator          PropertyID = 0x01
	PropMessageExpiryInterval           PropertyID = 0x02
	PropContentType                     PropertyID = 0x03
	PropResponseTopic                   PropertyID = 0x08
	PropCorrelationData                 PropertyID = 0x09
	PropSubscriptionIdentifier          PropertyID = 0x0B
	PropSessionExpiryInterval           PropertyID = 0x11
	PropAssignedClientIdentifier        PropertyID = 0x12
	PropServerKeepAlive                 PropertyID = 0x13
	PropAuthenticationMethod            PropertyID = 0x15
	PropAuthenticationData              PropertyID = 0x16
	PropRequestProblemInformation       PropertyID = 0x17
	PropWillDelayInterval               PropertyID = 0x18
	PropRequestResponseInformation      PropertyID = 0x19
	PropResponseInformation             PropertyID = 0x1A
	PropServerReference                 PropertyID = 0x1C
	PropReasonString                    PropertyID = 0x1F
	PropReceiveMaximum                  PropertyID = 0x21
	PropTopicAliasMaximum               PropertyID = 0x22
	PropTopicAlias                      PropertyID = 0x23
	PropMaximumQoS                      PropertyID = 0x24
	PropRetainAvailable                 PropertyID = 0x25
	PropUserProperty                    PropertyID = 0x26
	PropMaximumPacketSize               PropertyID = 0x27
	PropWildcardSubscriptionAvailable   PropertyID = 0x28
	PropSubscriptionIdentifierAvailable PropertyID = 0x29
	PropSharedSubscriptionAvailable     PropertyID = 0x2A

	maxPropertyID = PropSharedSubscriptionAvailable
)

// String returns the standard's name of the property, such as "Content Type",
// and "property 0xNN" for an identifier that the standard does not define.
func (id PropertyID) String() string {
	if r := ruleOf(id); r.wire != wireNone {
		return r.name
	}
	return fmt.Sprintf("property 0x%02X", byte(id))
}

// PropertySet is a set of property identifiers. The zero value is empty.
type PropertySet uint64

// Has reports whether id is in s.
func (s PropertySet) Has(id PropertyID) bool { return s&(1<<id) != 0 }

// With returns s with id added.
func (s PropertySet) With(id PropertyID) PropertySet { return s | 1<<id }

// Without returns s with id removed.
func (s PropertySet) Without(id PropertyID) PropertySet { return s &^ (1 << id) }

// wireType is how the value of a property is written, section 2.2.2.2.
type wireType byte

const (
	wireNone   wireType = iota // no such property
	wireByte                   // one byte
	wireUint16                 // two bytes, big endian
	wireUint32                 // four bytes, big endian
	wireVarint                 // variable byte integer
	wireString                 // UTF-8 string with a two-byte length
	wireBinary                 // bytes with a two-byte length
	wirePair                   // two UTF-8 strings
)

// packetSet is a set of packet types; bit 0 stands for the will properties inside CONNECT.
type packetSet uint16

const inWill packetSet = 1

func in(types ...Type) (s packetSet) {
	for _, t := range types {
		s |= 1 << t
	}
	return s
}

// scope is the one-element set that t, or the will in it, stands for.
func scope(t Type, will bool) packetSet {
	if will {
		return inWill
	}
	return 1 << t
}

// propertyRule is what the standard says about one property.
type propertyRule struct {
	name     string
	wire     wireType
	packets  packetSet // where the property may stand
	repeats  packetSet // where it may stand more than once
	min, max uint32    // range of a number; max 0 = whatever the wire type holds
}

func ruleOf(id PropertyID) *propertyRule {
	if id > maxPropertyID {
		id = 0
	}
	return &propertyRules[id]
}

// propertyRules is section 2.2.2.2, table 2-4, with the ranges of the sections it points to.
var propertyRules = [maxPropertyID + 1]propertyRule{
	PropPayloadFormatIndicator:   {name: "Payload Format Indicator", wire: wireByte, packets: message, max: 1},
	PropMessageExpiryInterval:    {name: "Message Expiry Interval", wire: wireUint32, packets: message},
	PropContentType:              {name: "Content Type", wire: wireString, packets: message},
	PropResponseTopic:            {name: "Response Topic", wire: wireString, packets: message},
	PropCorrelationData:          {name: "Correlation Data", wire: wireBinary, packets: message},
	PropSubscriptionIdentifier:   {name: "Subscription Identifier", wire: wireVarint, packets: in(PUBLISH, SUBSCRIBE), repeats: in(PUBLISH), min: 1, max: maxVarint},
	PropSessionExpiryInterval:    {name: "Session Expiry Interval", wire: wireUint32, packets: in(CONNECT, CONNACK, DISCONNECT)},
	PropAssignedClientIdentifier: {name: "Assigned Client Identifier", wire: wireString, packets: in(CONNACK)},
	PropServerKeepAlive:          {name: "Server Keep Alive", wire: wireUint16, packets: in(CONNACK)},
	PropAuthenticationMethod:     {name: "Authentication Method", wire: wireString, packets: in(CONNECT, CONNACK, AUTH)},
	PropAuthenticationData:       {name: "Authentication Data", wire: wireBinary, packets: in(CONNECT, CONNACK, AUTH)},

	PropRequestProblemInformation:  {name: "Request Problem Information", wire: wireByte, packets: in(CONNECT), max: 1},
	PropWillDelayInterval:          {name: "Will Delay Interval", wire: wireUint32, packets: inWill},
	PropRequestResponseInformation: {name: "Request Response Information", wire: wireByte, packets: in(CONNECT), max: 1},
	PropResponseInformation:        {name: "Response Information", wire: wireString, packets: in(CONNACK)},
	PropServerReference:            {name: "Server Reference", wire: wireString, packets: in(CONNACK, DISCONNECT)},
	PropReasonString:               {name: "Reason String", wire: wireString, packets: in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},

	PropReceiveMaximum:    {name: "Receive Maximum", wire: wireUint16, packets: in(CONNECT, CONNACK), min: 1},
	PropTopicAliasMaximum: {name: "Topic Alias Maximum", wire: wireUint16, packets: in(CONNECT, CONNACK)},
	PropTopicAlias:        {name: "Topic Alias", wire: wireUint16, packets: in(PUBLISH), min: 1},
	PropMaximumQoS:        {name: "Maximum QoS", wire: wireByte, packets: in(CONNACK), max: 1},
	PropRetainAvailable:   {name: "Retain Available", wire: wireByte, packets: in(CONNACK), max: 1},
	PropUserProperty:      {name: "User Property", wire: wirePair, packets: anywhere, repeats: anywhere},
	PropMaximumPacketSize: {name: "Maximum Packet Size", wire: wireUint32, packets: in(CONNECT, CONNACK), min: 1},

	PropWildcardSubscriptionAvailable:   {name: "Wildcard Subscription Available", wire: wireByte, packets: in(CONNACK), max: 1},
	PropSubscriptionIdentifierAvailable: {name: "Subscription Identifier Available", wire: wireByte, packets: in(CONNACK), max: 1},
	PropSharedSubscriptionAvailable:     {name: "Shared Subscription Available", wire: wireByte, packets: in(CONNACK), max: 1},
}

// The sets that several rules share.
const (
	message  = packetSet(1)<<PUBLISH | inWill
	anywhere = packetSet(0xFFFF) &^ (1<<PINGREQ | 1<<PINGRESP)
)
