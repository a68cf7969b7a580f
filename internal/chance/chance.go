// Package chance gives tests random numbers that can be had again: the seed is in
// the log of a test that fails, and MILLRACE_SEED replays it.
package chance

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Given returns the seed that MILLRACE_SEED holds, if it holds one.
func Given(t testing.TB) (seed uint64, ok bool) {
	t.Helper()
	text := os.Getenv("MILLRACE_SEED")
	if text == "" {
		return 0, false
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("MILLRACE_SEED: %v", err)
	}
	return seed, true
}

// Seed returns the seed of one run of t, and logs it: the given one, else a new one.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, ok := Given(t)
	if !ok {
		seed = rand.Uint64()
	}
	t.Logf("MILLRACE_SEED=%d replays this", seed)
	return seed
}

// Stream returns the random numbers of one round, or of one goroutine, under a seed.
func Stream(seed, n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }

// Rand returns the random numbers of a test that needs only one stream.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return Stream(Seed(t), 0)
}

// Long reports whether the long tier was asked for, by MILLRACE_LONG.
func Long() bool { return os.Getenv("MILLRACE_LONG") != "" }

// Rounds is how often a test repeats itself: n times in CI, a third of that under
// -short, long times in the long tier.
func Rounds(n, long int) int {
	switch {
	case Long():
		return long
	case testing.Short():
		return max(1, n/3)
	}
	return n
}

// Amount is how much a test takes that measures something for it, memory for one: n
// in CI, also under -short, long in the long tier.
func Amount(n, long int) int {
	if Long() {
		return long
	}
	return n
}
