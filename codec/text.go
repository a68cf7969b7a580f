package codec

import "unicode/utf8"

// maxString is the most bytes that a string or binary field holds, section 1.5.4.
const maxString = 65_535

// CheckUTF8 reports whether s can stand on the wire as a UTF-8 encoded string
// (section 1.5.4): well-formed, without surrogates and U+0000 [MQTT-1.5.4-1,
// -2], at most 65,535 bytes. The error is an *Error with code MalformedPacket
// and the offset of the first bad byte.
func CheckUTF8[T ~string | ~[]byte](s T) error { return asError(checkUTF8(s)) }

func checkUTF8[T ~string | ~[]byte](s T) *Error {
	if len(s) > maxString {
		return errTooLong()
	}
	for i := 0; i < len(s); {
		if isPlain(s[i]) {
			i++
			continue
		}
		n := sequence(s, i)
		if n == 0 {
			return errBadText(s[i], i)
		}
		i += n
	}
	return nil
}

// isPlain reports whether c is an ASCII character other than U+0000.
func isPlain(c byte) bool { return c-1 < utf8.RuneSelf-1 }

// sequence returns the length of the well-formed UTF-8 sequence at s[i], or 0
// if it is none or U+0000.
func sequence[T ~string | ~[]byte](s T, i int) int {
	if s[i] == 0 {
		return 0
	}
	r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
	if r == utf8.RuneError && n == 1 {
		return 0
	}
	return n
}

func errTooLong() *Error {
	return malformed(0, maxString, "longer than 65,535 bytes")
}

func errBadText(c byte, at int) *Error {
	if c == 0 {
		return malformed(0, at, "holds U+0000")
	}
	return malformed(0, at, "ill-formed UTF-8")
}
