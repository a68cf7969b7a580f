package integration

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
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
	inUse     int // Futures that failed with PUBREC 0x91 and say that the message may have arrived
	unheld    int // Future nil, and the broker never held it
	received  int // different messages that arrived
	lost      int // Future nil, and did not arrive
	taken     int // of these, what the client acknowledged
	doubled   int // arrived more than once
	anew      int // of these, what the broker began anew as often as it arrived
	disorder  int // arrived for the first time after a later one
	unlike    int // arrivals that are not in the order of the wire, and messages of the last link that did not arrive
}

// count compares Futures with what arrived, and that with what the broker sent.
// held, if not nil, is what the broker took.
func (l *lane) count(in inbound, out outbound, held map[string]bool) laneTally {
	c := laneTally{published: len(l.futures), disorder: l.disorder, received: len(l.seen) - 1} // without the end mark
	for n, times := range l.seen {
		if times > 1 {
			c.doubled++
			if in.begun[wireMessage{l.topic, n}] >= times && !out.anew[wireMessage{l.topic, n}] {
				c.anew++
			}
		}
	}
	for n, f := range l.futures {
		if err := f.Err(); err != nil {
			failed, ok := errors.AsType[*mqtt.PublishError](err)
			reason, named := errors.AsType[*mqtt.ReasonError](err)
			if ok && named && failed.MayHaveArrived && reason.Code == codec.PacketIdentifierInUse {
				c.inUse++
			}
			continue
		}
		c.succeeded++
		if held != nil && l.qos > 0 && !held[l.topic+" "+strconv.Itoa(n)] {
			c.unheld++
		}
		if l.seen[n] == 0 {
			c.lost++
			if in.acked[wireMessage{l.topic, n}] > 0 {
				c.taken++
			}
		}
	}
	explained, missed := in.follow(l.topic, l.order)
	c.unlike = len(l.order) - explained + missed
	return c
}

// String is a table with a row for each QoS.
func (r tally) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "QoS\tpublished\tnil Futures\t0x91\tnil, not held\treceived\tlost on the way\tlost by the client\tdoubled\tby the broker\tout of order\tunlike the wire\t")
	for qos, c := range r.lanes {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", qos,
			c.published, c.succeeded, c.inUse, c.unheld, c.received, c.lost-c.taken, c.taken, c.doubled, c.anew, c.disorder, c.unlike)
	}
	fmt.Fprintf(w, "links of the publisher: %d, goroutines left after Close: %d\n", r.links, r.goroutines)
	w.Flush()
	return text.String()
}

// excuse is what a broker is known to do under a disturbance.
type excuse uint8

const (
	losesSessions excuse = 1 << iota // what it held goes with a session, the publisher's too
	loses                            // it forgets messages while it keeps the session
	doubles                          // it sends a QoS 2 message again after its PUBREL
	disorders                        // it sends messages again in another order
	deniesAgain                      // it answers a QoS 2 message sent again by 0x91, "in use"
)

// check fails the test where a promise is broken. At QoS 0 nothing is promised
// but order; at QoS 1 a message may come twice. What the broker did by itself is
// told from the wire: a message that it lost is one that the client never
// acknowledged, and the client delivers in the order in which it sends.
func (r tally) check(t *testing.T, excused excuse) {
	t.Helper()
	for qos, c := range r.lanes {
		if c.succeeded == 0 || c.received == 0 {
			t.Errorf("QoS %d: nothing went through", qos)
		}
		if c.unlike > 0 || c.disorder > 0 && excused&disorders == 0 {
			t.Errorf("QoS %d: %d out of order, %d unlike the wire", qos, c.disorder, c.unlike)
		}
		if qos != 1 && (c.doubled > c.anew || c.doubled > 0 && excused&doubles == 0) {
			t.Errorf("QoS %d: %d doubled, %d by the broker", qos, c.doubled, c.anew)
		}
		if qos > 0 && (c.taken > 0 || c.unheld > 0 || c.lost > 0 && excused&(losesSessions|loses) == 0) {
			t.Errorf("QoS %d: %d lost, of which the client acknowledged %d; %d with a nil Future that the broker never held", qos, c.lost, c.taken, c.unheld)
		}
		failed := c.published - c.succeeded
		if excused&deniesAgain != 0 {
			failed -= c.inUse
		}
		if qos > 0 && failed > 0 && excused&losesSessions == 0 {
			t.Errorf("QoS %d: %d Futures failed although the session was kept", qos, failed)
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
