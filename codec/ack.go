package codec

// Ack is a received PUBACK, PUBREC, PUBREL or PUBCOMP, sections 3.4 to 3.7.
type Ack struct {
	Type     Type          // PUBACK, PUBREC, PUBREL or PUBCOMP
	PacketID uint16        // that of the PUBLISH, never 0
	Code     ReasonCode    // Success in 3.x and when the packet leaves it out
	Props    RawProperties // a view into the frame, empty in 3.x
}

// Decode sets a to the packet of type t in body, in the short forms of 2 and 3
// bytes too. It allocates nothing unless it fails. The error is an *Error.
func (a *Ack) Decode(v Version, t Type, body []byte) error {
	*a = Ack{Type: t}
	if t < PUBACK || t > PUBCOMP {
		return malformed(t, nowhere, "not an acknowledgement of a PUBLISH")
	}
	c := cursor{t: t, b: body}
	a.PacketID = c.packetID()
	// Sections 3.4.2.1 and 3.4.2.2.1: the code may be left out when it is
	// Success and no properties follow, and the property length when there are none.
	if v == V5 && c.more() {
		a.Code = ReasonCode(c.byte("reason code"))
		c.reasonCode(v, a.Code)
		if c.more() {
			a.Props = c.rawProperties(false)
		}
	}
	return c.end()
}

// AppendAck appends a packet of type t, one of PUBACK, PUBREC, PUBREL and
// PUBCOMP: 4 bytes in 3.x and when the code is Success and p holds nothing, 5
// bytes when only p holds nothing. The code must be in the table of t and p
// pass [Properties.Check]. It allocates nothing when dst has room for it.
func AppendAck(dst []byte, v Version, t Type, id uint16, code ReasonCode, p *Properties) []byte {
	first := byte(t)<<4 | t.flags()
	size := 0
	if v == V5 && p != nil {
		size = PropertiesSize(p)
	}
	switch {
	case size > 0:
		dst = AppendVarint(append(dst, first), 2+1+VarintSize(size)+size)
		dst = append(dst, byte(id>>8), byte(id), byte(code))
		return appendProperties(dst, p, size)
	case v == V5 && code != Success:
		return append(dst, first, 3, byte(id>>8), byte(id), byte(code))
	}
	return append(dst, first, 2, byte(id>>8), byte(id))
}
