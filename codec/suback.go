package codec

// Suback answers SUBSCRIBE, section 3.9.
type Suback struct {
	PacketID uint16       // that of the request
	Codes    []ReasonCode // one for each filter, in their order; in 3.x 0, 1, 2 or, as a refusal, 0x80 and above
	Props    *Properties  // MQTT 5.0 only, nil when there are none
}

// Decode sets p to the SUBACK in body; p owns its memory. The error is an
// *Error. Whether there are as many codes as filters, the link knows.
func (p *Suback) Decode(v Version, body []byte) error {
	*p = Suback{}
	c := cursor{t: SUBACK, b: body}
	p.PacketID = c.packetID()
	if v == V5 {
		p.Props = c.properties(false)
	}
	p.Codes = c.reasonCodes(v)
	return c.end()
}

// reasonCodes reads the rest of the packet as one reason code a byte, at least one.
func (c *cursor) reasonCodes(v Version) []ReasonCode {
	if c.err != nil {
		return nil
	}
	if !c.more() {
		c.fail(protocolError(c.t, c.off, "no reason code"))
		return nil
	}
	codes := make([]ReasonCode, 0, len(c.b)-c.off)
	for c.more() {
		code := ReasonCode(c.byte("reason code"))
		c.reasonCode(v, code)
		codes = append(codes, code)
	}
	return codes
}

// AppendSuback appends p. On an error, an *Error, dst is returned as it came.
func AppendSuback(dst []byte, v Version, p *Suback) ([]byte, error) {
	e := encode(dst, SUBACK)
	e.packetID(p.PacketID)
	if v == V5 {
		e.properties(p.Props, false)
	}
	e.reasonCodes(v, p.Codes)
	return e.end()
}
