package codec

import "encoding/binary"

// CheckProperties checks property bytes without the length in front, as a
// packet of type t carries them, or with will true the will inside a CONNECT:
// identifiers, types, ranges, repeats and texts, section 2.2.2. It allocates
// nothing unless it fails. The error is an *Error whose Offset counts from the
// start of raw.
//
// Authentication Data without a method and an AUTH without a method are
// errors here too. A Payload Format Indicator of 1 is not held against the
// payload: section 3.3.2.3.2 leaves that to the receiver.
func CheckProperties(t Type, will bool, raw []byte) error {
	var f propertyFacts
	return asError(f.scan(t, will, raw))
}

// propertyFacts is what one walk over property bytes finds out.
type propertyFacts struct {
	seen       PropertySet
	topicAlias uint16
	subID      uint32 // the first
	subIDs     int
}

func (f *propertyFacts) scan(t Type, will bool, raw []byte) *Error {
	where := scope(t, will)
	for at := 0; at < len(raw); {
		id, value, n, err := nextProperty(raw[at:])
		if err == nil {
			err = f.check(where, id, value)
		}
		if err != nil {
			err.Type = t
			err.Offset += at
			return err
		}
		at += n
	}
	return f.checkAuth(t, will)
}

// nextProperty splits the first property off b, which is not empty. value is
// as on the wire, without the length in front of a single text or binary; n is
// how many bytes identifier and value take. Offsets of errors count from b.
func nextProperty(b []byte) (id PropertyID, value []byte, n int, err *Error) {
	id = PropertyID(b[0])
	rest := b[1:]
	skip, size := 0, 0
	switch ruleOf(id).wire {
	case wireByte:
		size = 1
	case wireUint16:
		size = 2
	case wireUint32:
		size = 4
	case wireVarint:
		if _, size = parseVarint(rest); size <= 0 {
			return id, nil, 0, varintError(0, 1, size, id.String())
		}
	case wireString, wireBinary:
		skip, size = 2, fieldSize(rest)-2
	case wirePair:
		size = fieldSize(rest)
		if size <= len(rest) {
			size += fieldSize(rest[size:])
		}
	default:
		// A multi-byte identifier lands here too: all known ones are below 0x80.
		return id, nil, 0, malformed(0, 0, "unknown property identifier")
	}
	if skip+size > len(rest) {
		return id, nil, 0, malformed(0, 1, id.String()+": runs past the end of the properties")
	}
	return id, rest[skip : skip+size], 1 + skip + size, nil
}

// fieldSize returns the size of the length-prefixed field at the start of b
// with its prefix. It is more than len(b) when the field does not fit.
func fieldSize(b []byte) int {
	if len(b) < 2 {
		return 2
	}
	return 2 + int(binary.BigEndian.Uint16(b))
}

// check takes note of one property and checks it.
func (f *propertyFacts) check(where packetSet, id PropertyID, value []byte) *Error {
	rule := ruleOf(id)
	if rule.packets&where == 0 {
		// Section 2.2.2.2: an identifier not valid for its packet type is malformed.
		return malformed(0, 0, rule.name+": not allowed in this packet")
	}
	if f.seen.Has(id) && rule.repeats&where == 0 {
		return protocolError(0, 0, rule.name+": given twice")
	}
	f.seen = f.seen.With(id)
	switch rule.wire {
	case wireString:
		return checkPropertyText(id, value, 3)
	case wirePair:
		n := fieldSize(value)
		if err := checkPropertyText(id, value[2:n], 3); err != nil {
			return err
		}
		return checkPropertyText(id, value[n+2:], 1+n+2)
	case wireBinary:
		return nil
	}
	return f.checkNumber(rule, id, number(rule.wire, value))
}

// checkPropertyText checks a text that begins at the offset at of its property.
func checkPropertyText(id PropertyID, text []byte, at int) *Error {
	err := checkUTF8(text)
	if err == nil && id == PropResponseTopic {
		// [MQTT-3.3.2-13, -14]: a topic name, so without wildcards and not empty.
		if err = checkTopicName(text); err != nil {
			err.Code = ProtocolError
		}
	}
	if err != nil {
		return err.in(0, at, id.String())
	}
	return nil
}

func (f *propertyFacts) checkNumber(rule *propertyRule, id PropertyID, v uint32) *Error {
	if v < rule.min || rule.max != 0 && v > rule.max {
		err := protocolError(0, 0, rule.name+": value out of range")
		if id == PropTopicAlias {
			err.Code = TopicAliasInvalid // [MQTT-3.3.2-8]
		}
		return err
	}
	switch id {
	case PropTopicAlias:
		f.topicAlias = uint16(v)
	case PropSubscriptionIdentifier:
		if f.subIDs == 0 {
			f.subID = v
		}
		f.subIDs++
	}
	return nil
}

// number reads a value that nextProperty returned.
func number(w wireType, value []byte) uint32 {
	switch w {
	case wireByte:
		return uint32(value[0])
	case wireUint16:
		return uint32(binary.BigEndian.Uint16(value))
	case wireUint32:
		return binary.BigEndian.Uint32(value)
	}
	v, _ := parseVarint(value)
	return uint32(v)
}

// checkAuth checks what Authentication Method and Data ask of each other, sections 3.1.2.11.10 and 3.15.2.2.2.
func (f *propertyFacts) checkAuth(t Type, will bool) *Error {
	if will || f.seen.Has(PropAuthenticationMethod) {
		return nil
	}
	if f.seen.Has(PropAuthenticationData) {
		return protocolError(t, 0, "Authentication Data without Authentication Method")
	}
	if t == AUTH {
		return protocolError(t, 0, "no Authentication Method")
	}
	return nil
}

// Check reports whether p can be written into a packet of type t, or with will
// true into the will of a CONNECT: only properties that may stand there, values
// in range, texts well-formed and at most 65,535 bytes. nil passes wherever no
// property is required. The error is an *Error without an Offset.
func (p *Properties) Check(t Type, will bool) error {
	if err := p.checkSizes(t); err != nil {
		return err
	}
	raw := appendProperties(make([]byte, 0, PropertiesSize(p)+4), p, PropertiesSize(p))
	_, n := parseVarint(raw)
	var f propertyFacts
	if err := f.scan(t, will, raw[n:]); err != nil {
		err.Offset = nowhere
		return err
	}
	return nil
}

// checkSizes finds what would not fit its field and so could not be checked once it is encoded.
func (p *Properties) checkSizes(t Type) *Error {
	for s := p.set(); s != 0; s &= s - 1 {
		id, size := s.first(), 0
		switch ruleOf(id).wire {
		case wireNone:
			return malformed(t, nowhere, "unknown property identifier")
		case wireString:
			size = len(*p.text(id))
		case wireBinary:
			size = len(*p.binary(id))
		case wireVarint:
			for _, v := range p.SubscriptionIDs {
				if v > maxVarint {
					return protocolError(t, nowhere, id.String()+": value out of range")
				}
			}
		case wirePair:
			for i := range p.User {
				size = max(size, len(p.User[i].Key), len(p.User[i].Value))
			}
		}
		if size > maxString {
			return malformed(t, nowhere, id.String()+": longer than 65,535 bytes")
		}
	}
	return nil
}
