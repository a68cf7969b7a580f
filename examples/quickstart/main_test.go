package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), "", &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"arrived: plant/0/temp at QoS 0: {Celsius:20.5}, error <nil>",
		"arrived: plant/1/temp at QoS 1: {Celsius:21.5}, error <nil>",
		"arrived: plant/2/temp at QoS 2: {Celsius:22.5}, error <nil>",
		"published at QoS 0: error <nil>",
		"published at QoS 1: error <nil>",
		"published at QoS 2: error <nil>",
		"event: mqtt.Connected",
		"event: mqtt.Closed mqtt: connection closed",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
