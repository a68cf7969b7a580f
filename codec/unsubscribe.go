package codec

// Unsubscribe ends subscriptions, section 3.10.
type Unsubscribe struct {
	PacketID uint16      // not 0
	Filters  []string    // at least one [MQTT-3.10.3-2]
	Props    *Properties // MQTT 5.0 only, not written in 3.x
}

// Decode sets p to the UNSUBSCRIBE in body; p owns its memory. The error is an *Error.
func (p *Unsubscribe) Decode(v Version, body []byte) error {
	*p = Unsubscribe{}
	c := cursor{t: UNSUBSCRIBE, b: body}
	p.PacketID = c.packetID()
	if v == V5 {
		p.Props = c.properties(false)
	}
	if c.err == nil && !c.more() {
		c.fail(protocolError(UNSUBSCRIBE, c.off, "no topic filter")) // [MQTT-3.10.3-2]
	}
	for c.more() {
		p.Filters = append(p.Filters, c.text("topic filter", checkTopicFilter))
	}
	return c.end()
}

// AppendUnsubscribe appends p. On an error, an *Error, dst is returned as it came.
func AppendUnsubscribe(dst []byte, v Version, p *Unsubscribe) ([]byte, error) {
	e := encode(dst, UNSUBSCRIBE)
	e.packetID(p.PacketID)
	if v == V5 {
		e.properties(p.Props, false)
	}
	if len(p.Filters) == 0 {
		e.fail(protocolError(UNSUBSCRIBE, nowhere, "no topic filter")) // [MQTT-3.10.3-2]
	}
	for _, filter := range p.Filters {
		e.text("topic filter", filter, checkTopicFilter)
	}
	return e.end()
}
