package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), "", 20, &out); err != nil {
		t.Fatal(err)
	}
	// Sensor a lost its first reading, so that only five of its nine make a mean.
	want := "mean of b: 25.0\nmean of a: 26.0\nmean of b: 35.0\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
