package codec

// Unsuback answers UNSUBSCRIBE, section 3.11.
type Unsuback struct {
	PacketID uint16       // that of the request
	Codes    []ReasonCode // one for each filter, in their order; none in 3.x
	Props    *Properties  // MQTT 5.0 only, nil when there are none
}

// Decode sets p to the UNSUBACK in body; p owns its memory. The error is an
// *Error. Whether there are as many codes as filters, the link knows.
func (p *Unsuback) Decode(v Version, body []byte) error {
	*p = Unsuback{}
	c := cursor{t: UNSUBACK, b: body}
	p.PacketID = c.packetID()
	if v == V5 {
		p.Props = c.properties(false)
		p.Codes = c.reasonCodes(v)
	}
	return c.end()
}

// AppendUnsuback appends p; Codes and Props are not written in 3.x. On an
// error, an *Error, dst is returned as it came.
func AppendUnsuback(dst []byte, v Version, p *Unsuback) ([]byte, error) {
	e := encode(dst, UNSUBACK)
	e.packetID(p.PacketID)
	if v == V5 {
		e.properties(p.Props, false)
		e.reasonCodes(v, p.Codes)
	}
	return e.end()
}
