package chaos

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/mqtt"
)

// Report is what a run showed.
type Report struct {
	Lanes    []Lane        // QoS 1, then QoS 2
	Cuts     int           // links cut
	Stalls   int           // links stalled
	Slowed   int           // links with a limited bandwidth
	Restarts int           // of the broker
	Kills    int           // of publisher and receiver
	Longest  time.Duration // the longest time without a message at the receiver
	Left     int           // records left in the publisher's store
}

// Lane is what became of the messages of one QoS.
type Lane struct {
	QoS      mqtt.QoS // of every message of the lane
	Promised int      // messages that were stored
	Received int      // messages that the receiver got
	Failed   int      // Futures that failed
	Lost     int      // promised, and never received by the receiver or the witness
	Doubled  int      // received twice by one process or by the witness, which QoS 1 permits
	ByBroker int      // of these, what the broker sent again after its PUBREL, see exchanges
	Disorder int      // received for the first time after a later one
	Again    int      // received again after a kill of the receiver

	// Examples are numbers of what was lost, doubled at QoS 2 or out of order.
	Examples []int
}

// OK reports whether every promise was kept.
func (r *Report) OK() bool {
	ok := r.Left == 0 && len(r.Lanes) > 0
	for _, l := range r.Lanes {
		ok = ok && l.Promised > 0 && l.Lost == 0 && l.Failed == 0 && l.Disorder == 0 && (l.QoS == 1 || l.Doubled == l.ByBroker)
	}
	return ok
}

// Add adds the figures of another run.
func (r *Report) Add(o Report) {
	r.Cuts += o.Cuts
	r.Stalls += o.Stalls
	r.Slowed += o.Slowed
	r.Restarts += o.Restarts
	r.Kills += o.Kills
	r.Left += o.Left
	r.Longest = max(r.Longest, o.Longest)
	if len(r.Lanes) == 0 {
		r.Lanes = make([]Lane, len(o.Lanes))
	}
	for i, l := range o.Lanes {
		sum := &r.Lanes[i]
		sum.QoS = l.QoS
		sum.Promised += l.Promised
		sum.Received += l.Received
		sum.Failed += l.Failed
		sum.Lost += l.Lost
		sum.Doubled += l.Doubled
		sum.ByBroker += l.ByBroker
		sum.Disorder += l.Disorder
		sum.Again += l.Again
		sum.Examples = append(sum.Examples, l.Examples...)
	}
}

// String is a table with a row for each QoS.
func (r *Report) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "QoS\tpromised\treceived\tFutures failed\tlost\tdoubled\tby the broker\tout of order\tagain after a kill of the receiver\t")
	for _, l := range r.Lanes {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.QoS, l.Promised, l.Received, l.Failed, l.Lost, l.Doubled, l.ByBroker, l.Disorder, l.Again)
	}
	w.Flush()
	fmt.Fprintf(&text, "links cut %d, stalled %d, slowed %d; broker restarts %d; process kills %d; longest recovery %v; left in the publisher's store %d\n",
		r.Cuts, r.Stalls, r.Slowed, r.Restarts, r.Kills, r.Longest.Round(time.Millisecond), r.Left)
	for _, l := range r.Lanes {
		if len(l.Examples) > 0 {
			fmt.Fprintf(&text, "QoS %d, look at %d\n", l.QoS, l.Examples)
		}
	}
	return text.String()
}

// kills counts processes that were killed: all but the last of each role.
func (r *run) kills() int { return r.pub.latest() + r.rec.latest() - 2 }

// count fills in the figures, once everything has ended.
func (r *run) count() {
	c := &r.result
	c.Kills, c.Longest = r.kills(), r.watch.figures().longest
	for _, p := range r.proxies {
		c.Cuts += int(p.cuts.Load())
		c.Stalls += int(p.stalls.Load())
		c.Slowed += int(p.slowed.Load())
	}
	for lane, qos := range lanes {
		promised := r.watch.promised[lane].sights
		var anew, witnessed []sight
		if qos == 2 {
			anew, witnessed = r.watch.anew.sights, r.witness.anew
		}
		got := judge(promised, r.watch.received[lane].sights, anew)
		seen := judge(promised, r.witness.seen(lane), witnessed)
		c.Lanes = append(c.Lanes, Lane{
			QoS: qos, Promised: got.promised, Received: got.received, Failed: len(r.watch.failed[lane].sights),
			Lost: max(got.lost, seen.lost), Doubled: got.doubled + seen.doubled, ByBroker: got.byBroker + seen.byBroker,
			Disorder: got.reorder + seen.reorder, Again: got.again,
			Examples: append(got.examples, seen.examples...),
		})
		if qos == 2 {
			c.Lanes[lane].Examples = slices.Concat(c.Lanes[lane].Examples, got.twice, seen.twice)
		}
	}
}
