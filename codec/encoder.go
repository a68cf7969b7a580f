package codec

// encoder writes a packet whose size need not be known first: it leaves room
// for the longest remaining length and closes the gap at the end. The first
// error sticks, and then the destination is handed back as it came.
type encoder struct {
	t     Type
	dst   []byte
	start int
	err   *Error
}

// headerRoom is the longest fixed header: the type and four bytes of remaining length.
const headerRoom = 5

func encode(dst []byte, t Type) *encoder {
	e := &encoder{t: t, dst: dst, start: len(dst)}
	e.dst = append(e.dst, byte(t)<<4|t.flags(), 0, 0, 0, 0)
	return e
}

func (e *encoder) fail(err *Error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) byte(b byte)     { e.dst = append(e.dst, b) }
func (e *encoder) uint16(n uint16) { e.dst = append(e.dst, byte(n>>8), byte(n)) }

func (e *encoder) packetID(id uint16) {
	if id == 0 {
		e.fail(protocolError(e.t, nowhere, "packet identifier 0"))
	}
	e.uint16(id)
}

// text writes a string that check accepts.
func (e *encoder) text(field, s string, check func(string) *Error) {
	if err := check(s); err != nil {
		e.fail(err.in(e.t, nowhere, field))
		return
	}
	e.dst = appendString(e.dst, s)
}

func (e *encoder) binary(field string, b []byte) {
	if len(b) > maxString {
		e.fail(malformed(e.t, nowhere, field+": longer than 65,535 bytes"))
		return
	}
	e.dst = appendString(e.dst, b)
}

// properties writes p and holds it to the rules that a receiver will apply.
func (e *encoder) properties(p *Properties, will bool) {
	if err := p.checkSizes(e.t); err != nil {
		e.fail(err)
		return
	}
	at := len(e.dst)
	e.dst = AppendProperties(e.dst, p)
	_, n := parseVarint(e.dst[at:])
	var f propertyFacts
	if err := f.scan(e.t, will, e.dst[at+n:]); err != nil {
		err.Offset = nowhere
		e.fail(err)
	}
}

// end writes the remaining length and returns the extended destination.
func (e *encoder) end() ([]byte, error) {
	body := len(e.dst) - e.start - headerRoom
	if body > maxVarint {
		e.fail(&Error{Type: e.t, Code: PacketTooLarge, Offset: nowhere, Detail: "packet larger than 268,435,455 bytes"})
	}
	if e.err != nil {
		return e.dst[:e.start], e.err
	}
	head := AppendVarint(e.dst[:e.start+1], body)
	return append(head, e.dst[e.start+headerRoom:]...), nil
}

// reasonCode writes a code that must be in the table of the packet.
func (e *encoder) reasonCode(v Version, c ReasonCode) {
	if !c.ValidFor(e.t, v) {
		e.fail(errReasonCode(e.t, v, nowhere, c))
	}
	e.byte(byte(c))
}

// reasonCodes writes the payload of SUBACK and UNSUBACK, at least one code.
func (e *encoder) reasonCodes(v Version, codes []ReasonCode) {
	if len(codes) == 0 {
		e.fail(protocolError(e.t, nowhere, "no reason code"))
	}
	for _, c := range codes {
		e.reasonCode(v, c)
	}
}
