package codec

import (
	"encoding/binary"
	"math/bits"
)

// UserProperty is one name-value pair. Pairs keep their order and names may repeat (section 2.2.2.2).
type UserProperty struct {
	Key   string // the name
	Value string // what it is set to
}

// Properties are the properties of one packet of MQTT 5.0, or of its will.
// A field is on the wire when its identifier is in Present, so that absent and
// zero differ; SubscriptionIDs and User are there when they are not empty. The
// identifiers are named beside the fields; the standard's section 2.2.2.2
// tells which packet may carry which.
type Properties struct {
	Present PropertySet // which of the single-value fields below are on the wire

	PayloadFormat   byte     // PropPayloadFormatIndicator: 1 = the payload is UTF-8 text
	MessageExpiry   uint32   // PropMessageExpiryInterval, seconds
	ContentType     string   // PropContentType
	ResponseTopic   string   // PropResponseTopic: a topic name
	CorrelationData []byte   // PropCorrelationData
	SubscriptionIDs []uint32 // PropSubscriptionIdentifier, 1 to 268,435,455; several in a PUBLISH only

	SessionExpiry       uint32 // PropSessionExpiryInterval, seconds; 0xFFFFFFFF = never
	AssignedClientID    string // PropAssignedClientIdentifier
	ServerKeepAlive     uint16 // PropServerKeepAlive, seconds
	AuthMethod          string // PropAuthenticationMethod
	AuthData            []byte // PropAuthenticationData
	RequestProblemInfo  byte   // PropRequestProblemInformation: 0 or 1
	WillDelay           uint32 // PropWillDelayInterval, seconds
	RequestResponseInfo byte   // PropRequestResponseInformation: 0 or 1
	ResponseInfo        string // PropResponseInformation
	ServerReference     string // PropServerReference
	ReasonString        string // PropReasonString

	ReceiveMaximum       uint16 // PropReceiveMaximum, 1 to 65,535
	TopicAliasMaximum    uint16 // PropTopicAliasMaximum
	TopicAlias           uint16 // PropTopicAlias, 1 to 65,535
	MaximumQoS           byte   // PropMaximumQoS: 0 or 1
	RetainAvailable      byte   // PropRetainAvailable: 0 or 1
	MaximumPacketSize    uint32 // PropMaximumPacketSize, bytes, at least 1
	WildcardSubAvailable byte   // PropWildcardSubscriptionAvailable: 0 or 1
	SubIDAvailable       byte   // PropSubscriptionIdentifierAvailable: 0 or 1
	SharedSubAvailable   byte   // PropSharedSubscriptionAvailable: 0 or 1

	User []UserProperty // PropUserProperty

	// UserCut says that a decoded packet had more User Properties than User has, see
	// [MaxUserProperties].
	UserCut bool
}

// MaxUserProperties bounds the User Properties that are kept of a packet whose other contents
// are small: of all packets but CONNECT, PUBLISH, SUBSCRIBE and UNSUBSCRIBE. Each counts
// for the length of its texts and [UserPropertyOverhead] bytes; those beyond are left out.
const MaxUserProperties = 4 << 10

// UserPropertyOverhead is what a User Property takes in memory besides its texts.
const UserPropertyOverhead = 32

// Has reports whether the property id is there. It is false on a nil p.
func (p *Properties) Has(id PropertyID) bool { return p.set().Has(id) }

// set returns everything that p holds.
func (p *Properties) set() PropertySet {
	if p == nil {
		return 0
	}
	s := p.Present.Without(PropSubscriptionIdentifier).Without(PropUserProperty)
	if len(p.SubscriptionIDs) > 0 {
		s = s.With(PropSubscriptionIdentifier)
	}
	if len(p.User) > 0 {
		s = s.With(PropUserProperty)
	}
	return s
}

// first returns the lowest identifier of a set that is not empty. Going
// through a set with it gives properties their order on the wire.
func (s PropertySet) first() PropertyID { return PropertyID(bits.TrailingZeros64(uint64(s))) }

// PropertiesSize returns the bytes that p takes on the wire without the length in front, 0 for nil.
func PropertiesSize(p *Properties) int {
	n := 0
	for s := p.set(); s != 0; s &= s - 1 {
		n += p.valueSize(s.first())
	}
	return n
}

// valueSize returns the bytes of the property id with its identifier, or of all its repetitions.
func (p *Properties) valueSize(id PropertyID) int {
	switch ruleOf(id).wire {
	case wireByte:
		return 1 + 1
	case wireUint16:
		return 1 + 2
	case wireUint32:
		return 1 + 4
	case wireString:
		return 1 + 2 + len(*p.text(id))
	case wireBinary:
		return 1 + 2 + len(*p.binary(id))
	case wireVarint:
		n := len(p.SubscriptionIDs)
		for _, v := range p.SubscriptionIDs {
			n += VarintSize(int(v))
		}
		return n
	case wirePair:
		n := 5 * len(p.User)
		for i := range p.User {
			n += len(p.User[i].Key) + len(p.User[i].Value)
		}
		return n
	}
	return 0
}

// AppendProperties appends the property length and the properties of p in
// ascending order of their identifiers; nil gives the length 0 alone
// [MQTT-2.2.2-1]. Values must be in range and texts at most 65,535 bytes:
// [Properties.Check] tells.
func AppendProperties(dst []byte, p *Properties) []byte {
	return appendProperties(dst, p, PropertiesSize(p))
}

// appendProperties is AppendProperties for a size that is known already.
func appendProperties(dst []byte, p *Properties, size int) []byte {
	dst = AppendVarint(dst, size)
	for s := p.set(); s != 0; s &= s - 1 {
		dst = p.appendValue(dst, s.first())
	}
	return dst
}

func (p *Properties) appendValue(dst []byte, id PropertyID) []byte {
	switch ruleOf(id).wire {
	case wireByte:
		return append(dst, byte(id), *p.octet(id))
	case wireUint16:
		return binary.BigEndian.AppendUint16(append(dst, byte(id)), *p.uint16(id))
	case wireUint32:
		return binary.BigEndian.AppendUint32(append(dst, byte(id)), *p.uint32(id))
	case wireString:
		return appendString(append(dst, byte(id)), *p.text(id))
	case wireBinary:
		return appendString(append(dst, byte(id)), *p.binary(id))
	case wireVarint:
		for _, v := range p.SubscriptionIDs {
			dst = AppendVarint(append(dst, byte(id)), int(v))
		}
	case wirePair:
		for i := range p.User {
			dst = appendString(append(dst, byte(id)), p.User[i].Key)
			dst = appendString(dst, p.User[i].Value)
		}
	}
	return dst
}

// appendString appends s with its two-byte length.
func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, byte(len(s)>>8), byte(len(s)))
	return append(dst, s...)
}
