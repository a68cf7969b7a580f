package mqtt

import (
	"math"
	"time"
)

// This file has durations as the wire has them: in whole seconds, of which the largest
// number stands for ever.

// forever stands for a session that does not expire.
const forever time.Duration = math.MaxInt64

// neverFrom makes a session expiry that the wire cannot tell from one that never
// comes, 0xFFFFFFFF (section 3.1.2.11.2), forever.
func neverFrom(d time.Duration) time.Duration {
	if wholeSeconds(d) == math.MaxUint32 {
		return forever
	}
	return d
}

// lifetime is a session expiry in words.
func lifetime(d time.Duration) string {
	if d == forever {
		return "no end"
	}
	return d.String()
}

// wholeSeconds rounds up, within the four bytes of the wire.
func wholeSeconds(d time.Duration) uint32 {
	s := int64(d / time.Second)
	if d%time.Second > 0 {
		s++ // added before the division it could overflow
	}
	return uint32(min(max(s, 0), math.MaxUint32))
}
