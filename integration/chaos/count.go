package chaos

import (
	"slices"

	"github.com/millrace/mqtt/integration/broker"
)

// count fills in the figures, once everything but the broker has ended.
func (r *run) count(tb broker.TB) error {
	c := &r.result
	c.Longest = r.watch.figures().longest
	for _, p := range []*process{r.pub, r.rec} {
		c.Kills += p.killed
		c.Left += p.left
		c.Graceful += len(p.graceful)
		r.wills.judge(p.settings.Role, p.graceful, c)
	}
	if err := r.countRefused(); err != nil {
		return err
	}
	for _, p := range r.proxies {
		c.Slow += int(p.slows.Load())
		c.Cuts += int(p.cuts.Load())
		c.Stalls += int(p.stalls.Load())
		c.Slowed += int(p.slowed.Load())
	}
	if r.config.Broker == Mochi {
		return r.countMochi(tb)
	}
	for lane := range lanes {
		settled := notes{dir: r.config.Dir, kind: "settled", lane: lane, incarnation: 1}
		if err := settled.follow(r.rec.latest()); err != nil {
			return err
		}
		c.Lanes = append(c.Lanes, r.countLane(lane, settled.sights))
	}
	return nil
}

// countRefused counts what became of the subscriptions to what Mosquitto refuses.
func (r *run) countRefused() (err error) {
	for kind, n := range map[string]*int{"refused": &r.result.Refused, "undecided": &r.result.Undecided, "granted": &r.result.Granted} {
		if *n, err = countNotes(r.config.Dir, kind); err != nil {
			return err
		}
	}
	return nil
}

// countLane counts a lane through a broker that keeps its word, but for what it
// doubles.
func (r *run) countLane(lane int, settled []sight) Lane {
	promised := r.watch.promised[lane].sights
	var anew, witnessed, released []sight
	if lanes[lane] == 2 {
		anew, witnessed, released = r.watch.anew.sights, r.witness.anew, r.watch.released.sights
	}
	knew := nothing
	if lanes[lane] == 2 {
		knew = known(r.watch.answered.sights, r.watch.released.sights, anew)
	}
	got := judge(promised, r.watch.received[lane].sights, unless(anew), knew, settledBy(settled, released, r.witness.seen(lane)))
	seen := judge(promised, r.witness.seen(lane), unless(witnessed), nothing, nothing)
	l := Lane{
		QoS: lanes[lane], Promised: got.promised, Received: got.received, Failed: len(r.watch.failed[lane].sights),
		Lost: len(union(got.missing, seen.missing)), Doubled: got.doubled + seen.doubled, ByBroker: got.byBroker + seen.byBroker,
		Disorder: got.reorder + seen.reorder, Again: got.again, Relapsed: got.relapsed, Taken: got.taken,
		Examples: append(got.examples, seen.examples...),
	}
	if lanes[lane] == 2 {
		l.Examples = slices.Concat(l.Examples, got.twice, seen.twice)
	}
	return l
}

// union returns what is in one of two lists without doubles.
func union(a, b []int) []int {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// countMochi counts the lanes by what mochi's tapes tell, and what it says that it
// dropped.
func (r *run) countMochi(tb broker.TB) error {
	r.broker.Stop(tb) // it leaves its counters
	drops, err := broker.ReadDrops(r.config.Dir)
	if err != nil {
		return err
	}
	r.result.Dropped = int(drops.Messages + drops.Inflight)
	t, err := hear(r.config.Dir)
	if err != nil {
		return err
	}
	r.result.Ended = t.ended
	for lane := range lanes {
		w := r.watch
		r.result.Lanes = append(r.result.Lanes,
			t.judge(lane, w.promised[lane].sights, w.failed[lane].sights, w.received[lane].sights, r.witness.seen(lane)))
	}
	return nil
}
