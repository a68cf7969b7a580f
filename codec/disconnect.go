package codec

// Disconnect is the last packet of a connection, section 3.14. In 3.x only
// clients send it, and it always means a normal end.
type Disconnect struct {
	Code  ReasonCode  // NormalDisconnection when the packet leaves it out
	Props *Properties // MQTT 5.0 only, nil when there are none
}

// Decode sets p to the DISCONNECT in body, in the short forms of 0 and 1 bytes
// too; p owns its memory. The error is an *Error. A Session Expiry Interval
// passes, although a server may not send one [MQTT-3.14.2-2]: the receiver
// knows which side it is.
func (p *Disconnect) Decode(v Version, body []byte) error {
	*p = Disconnect{}
	c := cursor{t: DISCONNECT, b: body}
	if v == V5 && c.more() {
		p.Code = ReasonCode(c.byte("reason code"))
		c.reasonCode(v, p.Code)
		if c.more() { // section 3.14.2.2.1: below 2 bytes there are no properties
			p.Props = c.properties(false)
		}
	}
	return c.end()
}

// AppendDisconnect appends p in the shortest form: 2 bytes for a normal end
// without properties, 3 for another code without properties. In 3.x a Code
// other than NormalDisconnection is an error, because the packet would tell
// the server that all is well and to drop the will: close the connection
// instead. On an error, an *Error, dst is returned as it came.
func AppendDisconnect(dst []byte, v Version, p *Disconnect) ([]byte, error) {
	e := encode(dst, DISCONNECT)
	hasProps := v == V5 && p.Props.set() != 0
	if p.Code != NormalDisconnection || hasProps {
		e.reasonCode(v, p.Code)
	}
	if hasProps {
		e.properties(p.Props, false)
	}
	return e.end()
}
