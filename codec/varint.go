package codec

// maxVarint is the largest variable byte integer and so the largest remaining length, section 1.5.5.
const maxVarint = 268_435_455

// VarintSize returns how many bytes, 1 to 4, the variable byte integer n takes
// in its shortest form [MQTT-1.5.5-1]. n must be at most 268,435,455.
func VarintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// AppendVarint appends n as a variable byte integer in its shortest form
// [MQTT-1.5.5-1]. n must be at most 268,435,455.
func AppendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// The outcomes of parseVarint that are not a number of bytes.
const (
	varintShort = 0  // b ends inside the number
	varintLong  = -1 // more than four bytes
	varintFat   = -2 // not the shortest form
)

// parseVarint reads a variable byte integer at the start of b and returns it
// with the number of bytes it took, or one of the outcomes above.
func parseVarint(b []byte) (value, n int) {
	for i := range min(len(b), 4) {
		c := b[i]
		value |= int(c&0x7F) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, varintFat
			}
			return value, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, varintLong
	}
	return 0, varintShort
}

// varintError says in words what parseVarint found.
func varintError(t Type, offset, outcome int, field string) *Error {
	detail := ": ends inside a variable byte integer"
	switch outcome {
	case varintLong:
		detail = ": variable byte integer of more than 4 bytes"
	case varintFat:
		detail = ": variable byte integer not in its shortest form"
	}
	return malformed(t, offset, field+detail)
}
