package codec

import "encoding/binary"

// cursor reads the fields of a packet that is decoded into memory of its own.
// The first error sticks; reads after it return zero values.
type cursor struct {
	t   Type
	b   []byte
	off int
	err *Error
}

func (c *cursor) fail(err *Error) {
	if c.err == nil {
		c.err = err
	}
	c.off = len(c.b)
}

// more reports whether bytes are left.
func (c *cursor) more() bool { return c.off < len(c.b) }

// take returns the next n bytes.
func (c *cursor) take(n int, field string) []byte {
	if len(c.b)-c.off < n {
		c.fail(malformed(c.t, c.off, field+": runs past the end of the packet"))
		return nil
	}
	b := c.b[c.off : c.off+n]
	c.off += n
	return b
}

func (c *cursor) byte(field string) byte {
	if b := c.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16(field string) uint16 {
	if b := c.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// packetID reads a packet identifier, which is never 0 [MQTT-2.2.1-3, -4].
func (c *cursor) packetID() uint16 {
	at := c.off
	id := c.uint16("packet identifier")
	if id == 0 {
		c.fail(protocolError(c.t, at, "packet identifier 0"))
	}
	return id
}

// view returns the next length-prefixed field without a copy.
func (c *cursor) view(field string) []byte {
	n := c.uint16(field)
	return c.take(int(n), field)
}

// binary reads binary data, section 1.5.6; an empty one is not nil.
func (c *cursor) binary(field string) []byte {
	v := c.view(field)
	return append(make([]byte, 0, len(v)), v...)
}

// text reads a string that check accepts.
func (c *cursor) text(field string, check func([]byte) *Error) string {
	v := c.view(field)
	if c.err != nil {
		return ""
	}
	if err := check(v); err != nil {
		c.fail(err.in(c.t, c.off-len(v), field))
		return ""
	}
	return string(v)
}

// rawProperties reads a property length and checks the properties after it.
func (c *cursor) rawProperties(will bool) RawProperties {
	if c.err != nil {
		return nil
	}
	size, n := parseVarint(c.b[c.off:])
	if n <= 0 {
		c.fail(varintError(c.t, c.off, n, "property length"))
		return nil
	}
	c.off += n
	at := c.off
	raw := c.take(size, "properties")
	if c.err != nil {
		return nil
	}
	var f propertyFacts
	if err := f.scan(c.t, will, raw); err != nil {
		err.Offset += at
		c.fail(err)
		return nil
	}
	return raw
}

// properties is rawProperties with a copy; nil when there are none.
func (c *cursor) properties(will bool) *Properties {
	raw := c.rawProperties(will)
	if len(raw) == 0 {
		return nil
	}
	p := new(Properties)
	switch c.t {
	case CONNECT, PUBLISH, SUBSCRIBE, UNSUBSCRIBE:
		raw.Decode(p)
	default:
		raw.DecodeFirst(p, MaxUserProperties)
	}
	return p
}

// end checks that nothing is left and returns the first error.
func (c *cursor) end() error {
	if c.err == nil && c.more() {
		c.fail(malformed(c.t, c.off, "bytes after the end of the packet"))
	}
	return asError(c.err)
}
