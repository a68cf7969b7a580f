package integration

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// tally is what became of the messages of a load.
type tally struct {
	links      uint64 // of the publisher
	goroutines int    // of the client, left after Close
	lanes      [3]laneTally
}

type laneTally struct {
	published int // Futures
	succeeded int // Futures that resolved with nil
	received  int // different messages that arrived
	lost      int // Future nil, and did not arrive
	invented  int // Future nil, and the broker never held it
	doubled   int // arrived more than once
	disorder  int // arrived for the first time after a later one
}

// count compares Futures with what arrived. held, if not nil, is what the broker
// took; without it only what arrived is known to have been there.
func (l *lane) count(held map[string]bool) laneTally {
	c := laneTally{published: len(l.futures), disorder: l.disorder, received: len(l.seen) - 1} // without the end mark
	for _, times := range l.seen {
		if times > 1 {
			c.doubled++
		}
	}
	for n, f := range l.futures {
		if f.Err() != nil {
			continue
		}
		c.succeeded++
		if l.seen[n] == 0 {
			c.lost++
		}
		if held != nil && l.qos > 0 && !held[l.topic+" "+strconv.Itoa(n)] {
			c.invented++
		}
	}
	return c
}

// String is a table with a row for each QoS.
func (r tally) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "QoS\tpublished\tnil Futures\treceived\tnil, not received\tnil, not held\tdoubled\tout of order\t")
	for qos, c := range r.lanes {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", qos,
			c.published, c.succeeded, c.received, c.lost, c.invented, c.doubled, c.disorder)
	}
	fmt.Fprintf(w, "links of the publisher: %d, goroutines left after Close: %d\n", r.links, r.goroutines)
	w.Flush()
	return text.String()
}

// check fails the test where a promise is broken. At QoS 0 nothing is promised
// but order; at QoS 1 a message may come twice. Where the server lost its
// sessions, messages that it held went with them: they are not the client's.
func (r tally) check(t *testing.T, sessionsKept bool) {
	t.Helper()
	for qos, c := range r.lanes {
		if c.succeeded == 0 || c.received == 0 {
			t.Errorf("QoS %d: nothing went through", qos)
		}
		if c.disorder > 0 {
			t.Errorf("QoS %d: %d out of order", qos, c.disorder)
		}
		if qos != 1 && c.doubled > 0 {
			t.Errorf("QoS %d: %d doubled", qos, c.doubled)
		}
		if qos > 0 && (c.invented > 0 || sessionsKept && c.lost > 0) {
			t.Errorf("QoS %d: %d lost; %d with a nil Future that the broker never held", qos, c.lost, c.invented)
		}
		if qos > 0 && sessionsKept && c.succeeded != c.published {
			t.Errorf("QoS %d: %d Futures failed although the session was kept", qos, c.published-c.succeeded)
		}
	}
	if r.goroutines > 0 {
		t.Errorf("%d goroutines left after Close", r.goroutines)
	}
}

// goroutinesLeft counts the client's goroutines once they have had the time to
// return after what they signalled last.
func goroutinesLeft(t *testing.T) int {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		if n := clientGoroutines(); n == 0 {
			return 0
		}
		<-tick.C
	}
	return clientGoroutines()
}

// clientGoroutines counts goroutines that run, or were started by, the root package.
func clientGoroutines() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "github.com/millrace/mqtt.") {
			n++
		}
	}
	return n
}
