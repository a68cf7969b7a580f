package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), "", 4, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"event: mqtt.Connected", "command: on", "alarm on alarm/pump/7: 93.5"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
