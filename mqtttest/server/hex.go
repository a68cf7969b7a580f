package server

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
)

// Raw packets that scripts send most. All are in the form that [Wire.Send] takes.
const (
	Connack          = "20 03 00 00 00" // 5.0: accepted, no session, no properties
	ConnackPresent   = "20 03 01 00 00" // 5.0: accepted, session present
	Connack3         = "20 02 00 00"    // 3.1 and 3.1.1: accepted, no session
	Connack3Present  = "20 02 01 00"    // 3.1.1: accepted, session present
	ConnackVersion3  = "20 02 00 01"    // 3.x: unacceptable protocol version
	ConnackVersion5  = "20 03 00 84 00" // 5.0: unsupported protocol version
	ConnackBadID     = "20 03 00 85 00" // 5.0: client identifier not valid
	ConnackBadLogin  = "20 03 00 86 00" // 5.0: bad user name or password
	ConnackForbidden = "20 03 00 87 00" // 5.0: not authorized
	ConnackBusy      = "20 03 00 89 00" // 5.0: server busy
	Pingreq          = "C0 00"
	Pingresp         = "D0 00"
	DisconnectClient = "E0 00"    // normal disconnection, every version
	DisconnectTaken  = "E0 01 8E" // 5.0: session taken over
)

// Hex turns "20 03 00 0000" into bytes; white space is free. It panics on anything else, as
// regexp.MustCompile does: scripts are written by the programmer, not read from a wire.
func Hex(s string) []byte {
	b, err := hex.DecodeString(compact(s))
	if err != nil {
		panic(fmt.Sprintf("mqtttest: hex %q: %v", s, err))
	}
	return b
}

func compact(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// A pattern is a string of expected bytes in which some may be anything.
type pattern struct {
	bytes []byte
	any   []bool // nil: none
}

// parsePattern reads hex in which "??" is any byte.
func parsePattern(s string) (pattern, error) {
	s = compact(s)
	p := pattern{any: make([]bool, len(s)/2)}
	digits := []byte(s)
	for i := 0; i+1 < len(digits); i += 2 {
		if s[i:i+2] == "??" {
			p.any[i/2] = true
			copy(digits[i:], "00")
		}
	}
	var err error
	p.bytes, err = hex.DecodeString(string(digits))
	return p, err
}

// differs returns the index of the first byte of got that does not fit, -1 if all do.
func (p pattern) differs(got []byte) int {
	for i, b := range got {
		if i >= len(p.bytes) || (b != p.bytes[i] && (p.any == nil || !p.any[i])) {
			return i
		}
	}
	return -1
}

func (p pattern) String() string {
	s := spaced(p.bytes)
	for i, free := range p.any {
		if free && i < mostShown {
			s = s[:3*i] + "??" + s[3*i+2:]
		}
	}
	return s
}

// mostShown is how many bytes of each side a failure text shows.
const mostShown = 512

// spaced prints bytes as "20 03 00 00 00", and of many only the first.
func spaced(b []byte) string {
	if len(b) > mostShown {
		return fmt.Sprintf("% X ... (%d more bytes)", b[:mostShown], len(b)-mostShown)
	}
	return fmt.Sprintf("% X", b)
}
