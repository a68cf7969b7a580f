package main

import (
	"fmt"
	"os"
)

// terminal stands for a test where there is none: what ends a test ends the
// program.
type terminal struct{ cleanups []func() }

// Helper implements broker.TB.
func (t *terminal) Helper() {}

// Logf implements broker.TB.
func (t *terminal) Logf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// Fatalf implements broker.TB.
func (t *terminal) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "chaos: "+format+"\n", args...)
	t.cleanup()
	os.Exit(1)
}

// Skipf implements broker.TB: what a test may do without, the program may not.
func (t *terminal) Skipf(format string, args ...any) { t.Fatalf(format, args...) }

// Cleanup implements broker.TB.
func (t *terminal) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

// cleanup runs the cleanups, the last first.
func (t *terminal) cleanup() {
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		f := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		f()
	}
}
