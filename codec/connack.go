package codec

// Connack is the server's answer to CONNECT, section 3.2.
type Connack struct {
	SessionPresent bool        // always false in 3.1, which has no such flag
	Code           ReasonCode  // in 3.x the return code: 0 to 5, see ConnectReturnCodeString, or another refusal
	Props          *Properties // MQTT 5.0 only, nil when there are none

	// Short says that a CONNACK of 3.x form stands where one of 5.0 was
	// expected: a 3.x server refuses the version of our CONNECT. Code is then
	// 0x01 or 0x84.
	Short bool
}

// Decode sets p to the CONNACK in body; p owns its memory. The error is an *Error.
func (p *Connack) Decode(v Version, body []byte) error {
	*p = Connack{}
	c := cursor{t: CONNACK, b: body}
	flags := c.byte("connect acknowledge flags")
	if v != V31 { // there the byte is reserved and says nothing
		if c.err == nil && flags > 1 {
			c.fail(malformed(CONNACK, 0, "reserved connect acknowledge flags set")) // [MQTT-3.2.2-1]
		}
		p.SessionPresent = flags == 1
	}
	p.Code = ReasonCode(c.byte("reason code"))
	if v == V5 && len(body) == 2 && isVersionRefusal(p.Code) {
		p.Short = true
		return c.end()
	}
	c.reasonCode(v, p.Code)
	if v == V5 {
		p.Props = c.properties(false)
	}
	return c.end()
}

// isVersionRefusal reports whether c is how a 3.x server, or one that answers
// in 3.x form, refuses a protocol version.
func isVersionRefusal(c ReasonCode) bool {
	return c == 0x01 || c == UnsupportedProtocolVersion
}

// reasonCode checks the code that was just read.
func (c *cursor) reasonCode(v Version, code ReasonCode) {
	if c.err == nil && !code.ValidFor(c.t, v) && !code.refuses(c.t, v) {
		c.fail(errReasonCode(c.t, v, c.off-1, code))
	}
}

// AppendConnack appends p. On an error, an *Error, dst is returned as it came.
func AppendConnack(dst []byte, v Version, p *Connack) ([]byte, error) {
	e := encode(dst, CONNACK)
	var flags byte
	if p.SessionPresent && v != V31 {
		flags = 1
	}
	e.byte(flags)
	if p.Short {
		if !isVersionRefusal(p.Code) {
			e.fail(errReasonCode(CONNACK, V311, nowhere, p.Code))
		}
		e.byte(byte(p.Code))
		return e.end()
	}
	e.reasonCode(v, p.Code)
	if v == V5 {
		e.properties(p.Props, false)
	}
	return e.end()
}
