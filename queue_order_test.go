package mqtt

import (
	"fmt"
	"slices"
	"testing"
)

// A publish that finds the writer's buffer just emptied does not overtake
// what waited because it was full.
func TestPublishDoesNotOvertakeTheQueue(t *testing.T) {
	for _, qos := range []QoS{0, 1, 2} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			cfg := testQueue(1000)
			cfg.keepQoS0 = true
			o := newTestOutbound(cfg)
			filler := make([]byte, 10_000)
			n := 0
			one := func() string {
				n++
				payload := fmt.Sprintf("%04d", n)
				publish(o, qos, payload+string(filler))
				return payload
			}
			var want []string
			for range 100 {
				want = append(want, one()) // offline: all of it waits
			}
			l := upLink(o, 1, V5, 1000)
			if o.q0.n+o.q12.n == 0 {
				t.Fatal("the buffer took everything, nothing waits")
			}
			b, got := takeBuffer(o, l)
			want = append(want, one())
			o.wrote(&l.sender, b, nil)
			turnAll(o)
			got = append(got, writeAll(o, l)...)
			sent := payloads(got)
			for i := range sent {
				sent[i] = sent[i][:4]
			}
			if !slices.Equal(sent, want) {
				t.Errorf("sent %v", sent)
			}
		})
	}
}
