package chaos

import (
	"fmt"
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
	Slow     int           // times that lines were slow
	Slowed   int           // links with a limited bandwidth
	Restarts int           // of the broker
	Kills    int           // of publisher and receiver
	Left     int           // times that one of them ended its Conn in the middle of everything
	Graceful int           // of these, ends that sent a DISCONNECT over a link that nothing disturbed
	Wills    int           // of processes that ended so, published behind their last message
	Unmarked int           // last messages of such processes that the broker did not get
	Ends     []string      // the processes that Wills and Unmarked are about
	Longest  time.Duration // the longest time without a message at the receiver
	Records  int           // left in the stores
	Owed     int           // messages that the broker still has for the receiver
	Dropped  int           // by mochi at its limits, by its own counters
	Ended    int           // sessions and subscriptions that a client ended by itself

	// Subscriptions to a filter at which Mosquitto cuts the link: given up with an
	// error, not decided when their context or the process ended, and granted.
	Refused, Undecided, Granted int
}

// Lane is what became of the messages of one QoS.
type Lane struct {
	QoS      mqtt.QoS // of every message of the lane
	Promised int      // messages that were stored
	Received int      // messages that the receiver got
	Failed   int      // Futures that failed
	Lost     int      // promised, and never received by the receiver or the witness
	Doubled  int      // received twice by one process or by the witness, which QoS 1 permits
	ByBroker int      // of these, what the broker began anew, see exchanges and trial
	Disorder int      // received for the first time after a later one
	Again    int      // received again after an end of the receiver
	Taken    int      // of these, what a receiver had settled before it ended gracefully
	Relapsed int      // of these at QoS 2, what the killed one had answered by PUBREC

	// What mochi did by itself as its tapes show, none of it counted above: promised
	// and lost behind its acknowledgement, refused though it was sent again as it
	// must be, and sent in another order than it took them.
	Forgotten, Refused, Resorted int

	// Examples are numbers of what was lost, doubled at QoS 2 or out of order.
	Examples []int
}

// OK reports whether every promise was kept, though links were disturbed and
// processes killed. At a graceful end one message of a lane may be in hand.
func (r *Report) OK() bool {
	ok := r.Cuts+r.Stalls > 0 && r.Kills+r.Left > 0 && r.Wills == 0 && r.Unmarked == 0 && r.Granted == 0 && r.Records == 0 && r.Owed == 0 && r.Ended == 0 && len(r.Lanes) > 0
	for _, l := range r.Lanes {
		ok = ok && l.Promised > 0 && l.Lost == 0 && l.Failed == 0 && l.Disorder == 0 && l.Relapsed == 0 && l.Taken <= r.Graceful && (l.QoS == 1 || l.Doubled == l.ByBroker)
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
	r.Slow += o.Slow
	r.Left += o.Left
	r.Graceful += o.Graceful
	r.Wills += o.Wills
	r.Unmarked += o.Unmarked
	r.Ends = append(r.Ends, o.Ends...)
	r.Refused += o.Refused
	r.Undecided += o.Undecided
	r.Granted += o.Granted
	r.Records += o.Records
	r.Owed += o.Owed
	r.Dropped += o.Dropped
	r.Ended += o.Ended
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
		sum.Taken += l.Taken
		sum.Relapsed += l.Relapsed
		sum.Forgotten += l.Forgotten
		sum.Refused += l.Refused
		sum.Resorted += l.Resorted
		sum.Examples = append(sum.Examples, l.Examples...)
	}
}

// String is a table with a row for each QoS.
func (r *Report) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "QoS\tpromised\treceived\tFutures failed\tlost\tdoubled\tby the broker\tout of order\tagain after an end of the receiver\tthough answered\tthough graceful\t")
	for _, l := range r.Lanes {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", l.QoS, l.Promised, l.Received, l.Failed, l.Lost, l.Doubled, l.ByBroker, l.Disorder, l.Again, l.Relapsed, l.Taken)
	}
	w.Flush()
	if r.Dropped > 0 {
		fmt.Fprintf(&text, "dropped by the broker at its limits %d\n", r.Dropped)
	}
	fmt.Fprintf(&text, "links cut %d, stalled %d, slowed %d; lines slow %d times; broker restarts %d; process kills %d; longest recovery %v; left in the stores %d, at the broker %d\n",
		r.Cuts, r.Stalls, r.Slowed, r.Slow, r.Restarts, r.Kills, r.Longest.Round(time.Millisecond), r.Records, r.Owed)
	fmt.Fprintf(&text, "ends under traffic %d, graceful %d, with a will %d, last message lost %d\n", r.Left, r.Graceful, r.Wills, r.Unmarked)
	for _, end := range r.Ends {
		fmt.Fprintln(&text, end)
	}
	if r.Refused+r.Undecided+r.Granted > 0 {
		fmt.Fprintf(&text, "subscriptions that the broker cuts at: given up %d, not decided %d, granted %d\n", r.Refused, r.Undecided, r.Granted)
	}
	if r.Ended > 0 {
		fmt.Fprintf(&text, "sessions or subscriptions ended by a client: %d\n", r.Ended)
	}
	for _, l := range r.Lanes {
		if l.Forgotten+l.Refused+l.Resorted > 0 {
			fmt.Fprintf(&text, "QoS %d, by the broker alone: %d forgotten, %d refused, %d out of order\n", l.QoS, l.Forgotten, l.Refused, l.Resorted)
		}
		if len(l.Examples) > 0 {
			fmt.Fprintf(&text, "QoS %d, look at %d\n", l.QoS, l.Examples)
		}
	}
	return text.String()
}
