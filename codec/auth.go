package codec

// Auth is a step of enhanced authentication, section 3.15, MQTT 5.0 only.
type Auth struct {
	Code  ReasonCode  // Success, ContinueAuthentication or ReAuthenticate
	Props *Properties // nil when there are none
}

// Decode sets p to the AUTH in body; p owns its memory. The error is an *Error:
// a packet without an Authentication Method is one (section 3.15.2.2.2), but
// for the empty body, which section 3.15.2.1 defines as Success without properties.
func (p *Auth) Decode(v Version, body []byte) error {
	*p = Auth{}
	if v != V5 {
		return errNoAuth(v)
	}
	c := cursor{t: AUTH, b: body}
	if c.more() {
		p.Code = ReasonCode(c.byte("reason code"))
		c.reasonCode(v, p.Code)
		p.Props = c.properties(false)
	}
	return c.end()
}

// AppendAuth appends p; Success without properties is the form of 2 bytes. On
// an error, an *Error, dst is returned as it came.
func AppendAuth(dst []byte, v Version, p *Auth) ([]byte, error) {
	e := encode(dst, AUTH)
	if v != V5 {
		e.fail(errNoAuth(v))
		return e.end()
	}
	if p.Code != Success || p.Props.set() != 0 {
		e.reasonCode(v, p.Code)
		e.properties(p.Props, false)
	}
	return e.end()
}

func errNoAuth(v Version) *Error {
	return malformed(AUTH, nowhere, "no packet type of MQTT "+v.String())
}
