package codec

// Subscription is one topic filter of a SUBSCRIBE with its options, section
// 3.8.3.1. All options but QoS exist in MQTT 5.0 only and are not written in 3.x.
type Subscription struct {
	Filter            string // a topic filter, or $share/NAME/FILTER
	QoS               byte   // the maximum QoS: 0, 1 or 2
	NoLocal           bool   // not with a shared subscription [MQTT-3.8.3-4]
	RetainAsPublished bool   // forwarded messages keep their retain flag
	RetainHandling    byte   // retained messages: 0 = send, 1 = send if the subscription is new, 2 = none
}

// Subscribe asks for subscriptions, section 3.8.
type Subscribe struct {
	PacketID      uint16         // not 0
	Subscriptions []Subscription // at least one [MQTT-3.8.3-2]
	Props         *Properties    // MQTT 5.0 only, not written in 3.x
}

// The subscription options, section 3.8.3.1.
const (
	optionQoS               = 3 << 0
	optionNoLocal           = 1 << 2
	optionRetainAsPublished = 1 << 3
	optionRetainHandling    = 3 << 4
	optionReserved          = 3 << 6
)

// Decode sets p to the SUBSCRIBE in body; p owns its memory. The error is an *Error.
func (p *Subscribe) Decode(v Version, body []byte) error {
	*p = Subscribe{}
	c := cursor{t: SUBSCRIBE, b: body}
	p.PacketID = c.packetID()
	if v == V5 {
		p.Props = c.properties(false)
	}
	if c.err == nil && !c.more() {
		c.fail(protocolError(SUBSCRIBE, c.off, "no topic filter")) // [MQTT-3.8.3-2]
	}
	for c.more() {
		p.Subscriptions = append(p.Subscriptions, c.subscription(v))
	}
	return c.end()
}

func (c *cursor) subscription(v Version) (s Subscription) {
	s.Filter = c.text("topic filter", checkTopicFilter)
	at := c.off
	o := c.byte("subscription options")
	reserved := byte(optionReserved)
	if v != V5 {
		reserved = ^byte(optionQoS)
	}
	if c.err == nil && o&reserved != 0 {
		c.fail(malformed(SUBSCRIBE, at, "reserved subscription options set")) // [MQTT-3.8.3-5]
	}
	s.QoS = o & optionQoS
	s.NoLocal = o&optionNoLocal != 0
	s.RetainAsPublished = o&optionRetainAsPublished != 0
	s.RetainHandling = o & optionRetainHandling >> 4
	if err := s.check(v); err != nil && c.err == nil {
		err.Offset = at
		c.fail(err)
	}
	return s
}

// check holds the options against section 3.8.3.1.
func (s *Subscription) check(v Version) *Error {
	detail := ""
	switch {
	case s.QoS > 2:
		detail = "QoS above 2"
	case v != V5:
	case s.RetainHandling > 2:
		detail = "Retain Handling above 2"
	case s.NoLocal && isShared(s.Filter):
		detail = "No Local on a shared subscription" // [MQTT-3.8.3-4]
	}
	if detail == "" {
		return nil
	}
	return protocolError(SUBSCRIBE, nowhere, detail)
}

func (s *Subscription) options(v Version) byte {
	o := s.QoS & optionQoS
	if v != V5 {
		return o
	}
	if s.NoLocal {
		o |= optionNoLocal
	}
	if s.RetainAsPublished {
		o |= optionRetainAsPublished
	}
	return o | s.RetainHandling<<4&optionRetainHandling
}

// AppendSubscribe appends p. On an error, an *Error, dst is returned as it came.
func AppendSubscribe(dst []byte, v Version, p *Subscribe) ([]byte, error) {
	e := encode(dst, SUBSCRIBE)
	e.packetID(p.PacketID)
	if v == V5 {
		e.properties(p.Props, false)
	}
	if len(p.Subscriptions) == 0 {
		e.fail(protocolError(SUBSCRIBE, nowhere, "no topic filter")) // [MQTT-3.8.3-2]
	}
	for i := range p.Subscriptions {
		s := &p.Subscriptions[i]
		if err := s.check(v); err != nil {
			e.fail(err)
		}
		e.text("topic filter", s.Filter, checkTopicFilter)
		e.byte(s.options(v))
	}
	return e.end()
}
