package codec

import "encoding/binary"

// Publish is a PUBLISH to be written, section 3.3.
type Publish struct {
	Dup      bool        // a redelivery; never with QoS 0
	QoS      byte        // 0, 1 or 2
	Retain   bool        // the server keeps it as the retained message of its topic
	PacketID uint16      // in QoS 1 and 2, not 0
	Topic    string      // may be empty in MQTT 5.0 when Props hold a Topic Alias
	Payload  []byte      // may be nil
	Props    *Properties // MQTT 5.0 only, not written in 3.x
}

// Check reports whether p can be written in version v: QoS, packet identifier,
// topic name, properties and size. The error is an *Error. The encoders do not
// check, since a link writes most packets again and again from checked parts.
func (p *Publish) Check(v Version) error {
	switch {
	case p.QoS > 2:
		return malformed(PUBLISH, nowhere, "QoS above 2") // [MQTT-3.3.1-4]
	case p.Dup && p.QoS == 0:
		return malformed(PUBLISH, nowhere, "DUP with QoS 0") // [MQTT-3.3.1-2]
	case p.QoS > 0 && p.PacketID == 0:
		return protocolError(PUBLISH, nowhere, "packet identifier 0") // [MQTT-2.2.1-3]
	}
	if p.Topic != "" || v != V5 || !p.Props.Has(PropTopicAlias) {
		if err := checkTopicName(p.Topic); err != nil {
			return err.in(PUBLISH, nowhere, "topic name")
		}
	}
	if v == V5 && p.Props != nil {
		if err := p.Props.Check(PUBLISH, false); err != nil {
			return err
		}
	}
	if remaining, _ := p.remaining(v); remaining > maxVarint {
		return &Error{Type: PUBLISH, Code: PacketTooLarge, Offset: nowhere, Detail: "packet larger than 268,435,455 bytes"}
	}
	return nil
}

// remaining returns the remaining length of p and the size of its properties.
func (p *Publish) remaining(v Version) (n, props int) {
	n = 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	if v == V5 {
		if p.Props != nil {
			props = PropertiesSize(p.Props)
		}
		n += VarintSize(props) + props
	}
	return n, props
}

// PublishSize returns the bytes of the whole packet p in version v, fixed header and payload included.
func PublishSize(v Version, p *Publish) int {
	n, _ := p.remaining(v)
	return 1 + VarintSize(n) + n
}

// AppendPublish appends p, which must pass [Publish.Check]. It allocates
// nothing when dst has room for it.
func AppendPublish(dst []byte, v Version, p *Publish) []byte {
	return append(AppendPublishHeader(dst, v, p), p.Payload...)
}

// AppendPublishHeader appends p without its payload, whose length the fixed
// header counts: the caller writes it behind, for instance from its own memory.
func AppendPublishHeader(dst []byte, v Version, p *Publish) []byte {
	n, props := p.remaining(v)
	dst = append(dst, byte(PUBLISH)<<4|p.flags())
	dst = AppendVarint(dst, n)
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = append(dst, byte(p.PacketID>>8), byte(p.PacketID))
	}
	if v == V5 {
		if props == 0 {
			return append(dst, 0)
		}
		dst = appendProperties(dst, p.Props, props)
	}
	return dst
}

func (p *Publish) flags() byte {
	flags := p.QoS << 1
	if p.Dup {
		flags |= flagDup
	}
	if p.Retain {
		flags |= flagRetain
	}
	return flags
}

// PublishView is a received PUBLISH, section 3.3. Topic, Payload and Props are
// views into the frame and share its life.
type PublishView struct {
	Dup        bool          // a redelivery
	QoS        byte          // 0, 1 or 2
	Retain     bool          // a retained message, section 3.3.1.3
	PacketID   uint16        // 0 in QoS 0
	TopicAlias uint16        // 0 = none
	SubID      uint32        // the first Subscription Identifier, 0 = none
	SubIDs     int           // how many there are
	Topic      []byte        // empty only together with a TopicAlias
	Payload    []byte        // may be empty
	Props      RawProperties // empty in 3.x
}

// Decode sets p to the PUBLISH with the flags of the fixed header and body. It
// allocates nothing unless it fails. The error is an *Error.
//
// A payload that is not UTF-8 passes whatever the Payload Format Indicator
// says: the receiver may check it (section 3.3.2.3.2), the codec does not. A
// Topic Alias is not held against any maximum, which is the link's to know.
func (p *PublishView) Decode(v Version, flags byte, body []byte) error {
	if err := p.decode(v, flags, body); err != nil {
		return err
	}
	if len(p.Topic) == 0 {
		return nil
	}
	if err := checkTopicName(p.Topic); err != nil {
		if err.Code == TopicNameInvalid {
			// Of a packet that came [MQTT-3.3.2-2]. TopicNameInvalid is for a name
			// that is well formed and not accepted (section 3.14.2.1).
			err.Code = MalformedPacket
		}
		return err.in(PUBLISH, 2, "topic name")
	}
	return nil
}

// DecodeLayout is Decode without the check of the topic name's characters, for
// a caller that compares it to names that were checked before.
func (p *PublishView) DecodeLayout(v Version, flags byte, body []byte) error {
	return asError(p.decode(v, flags, body))
}

func (p *PublishView) decode(v Version, flags byte, body []byte) *Error {
	*p = PublishView{Dup: flags&flagDup != 0, QoS: flags >> 1 & 3, Retain: flags&flagRetain != 0}
	if !flagsValid(v, PUBLISH, flags) {
		return checkHeader(v, PUBLISH, flags)
	}
	at := fieldSize(body)
	if at > len(body) {
		return malformed(PUBLISH, 0, "topic name: runs past the end of the packet")
	}
	p.Topic = body[2:at:at]
	if p.QoS > 0 {
		if len(body)-at < 2 {
			return malformed(PUBLISH, at, "packet identifier: runs past the end of the packet")
		}
		if p.PacketID = binary.BigEndian.Uint16(body[at:]); p.PacketID == 0 {
			return protocolError(PUBLISH, at, "packet identifier 0") // [MQTT-2.2.1-4]
		}
		at += 2
	}
	if v == V5 {
		n, err := p.decodeProperties(body, at)
		if err != nil {
			return err
		}
		at = n
	}
	if len(p.Topic) == 0 && p.TopicAlias == 0 {
		return protocolError(PUBLISH, 0, "topic name: empty") // [MQTT-4.7.3-1], section 3.3.2.3.4
	}
	p.Payload = body[at:]
	return nil
}

// decodeProperties reads the properties at body[at:] and returns where the payload begins.
func (p *PublishView) decodeProperties(body []byte, at int) (int, *Error) {
	if at < len(body) && body[at] == 0 {
		return at + 1, nil // most messages have none
	}
	size, n := parseVarint(body[at:])
	if n <= 0 {
		return 0, varintError(PUBLISH, at, n, "property length")
	}
	at += n
	if len(body)-at < size {
		return 0, malformed(PUBLISH, at, "properties: run past the end of the packet")
	}
	end := at + size
	var f propertyFacts
	if err := f.scan(PUBLISH, false, body[at:end]); err != nil {
		err.Offset += at
		return 0, err
	}
	p.Props = RawProperties(body[at:end:end])
	p.TopicAlias, p.SubID, p.SubIDs = f.topicAlias, f.subID, f.subIDs
	return end, nil
}
