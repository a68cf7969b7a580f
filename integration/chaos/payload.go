package chaos

import (
	"bytes"
	"math/rand/v2"
	"strconv"
)

// payload returns the payload of a number: its text, and as a rule less than
// 100 bytes that follow from it, now and then up to 8 KiB.
func payload(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 0))
	size := rng.IntN(100)
	if rng.IntN(100) == 0 {
		size = rng.IntN(8 << 10)
	}
	p := append(strconv.AppendInt(nil, int64(n), 10), ' ')
	return append(p, bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, size)...)
}

// parse returns the number of a payload, and whether the payload is the one of
// that number.
func parse(p []byte) (n int, sound bool) {
	text, _, _ := bytes.Cut(p, []byte(" "))
	n, err := strconv.Atoi(string(text))
	return n, err == nil && bytes.Equal(p, payload(n))
}
