package chaos

// tally is what became of the messages of one lane.
type tally struct {
	promised, received int // different messages

	doubled  int // received more than once by one process
	byBroker int // of these, what the broker is to blame for
	reorder  int // received for the first time after a later one
	again    int // received again by a later process: the earlier ended before its acknowledgement left
	taken    int // of these, what the earlier process had settled, since it ended gracefully
	relapsed int // of these at QoS 2, what an earlier process had answered, and the broker not begun anew

	missing  []int // numbers promised, and not received
	examples []int // numbers of what was lost or out of order, some
	twice    []int // numbers of what was doubled and not by the broker, some
}

// judge compares promises with the sights of a subscriber, whose processes each
// may have been killed with messages in hand. excused is asked about each message
// that was doubled, as often as it was, known about each that came to a later process.
// settled about each that an earlier process had, as a sight of that one.
func judge(promised, sights []sight, excused, known, settled func(sight) bool) tally {
	var t tally
	seen, highest := map[int]int{}, 0 // seen: by which process last
	for _, s := range sights {
		if s.n == endMark {
			continue
		}
		before, again := seen[s.n]
		seen[s.n] = s.incarnation
		switch {
		case !again && s.n < highest:
			t.reorder++
			t.examples = example(t.examples, s.n)
		case !again:
			highest = s.n
		case before == s.incarnation:
			t.doubled++
			if excused(s) {
				t.byBroker++
				break
			}
			t.twice = example(t.twice, s.n)
		default:
			t.again++
			if settled(sight{s.n, before}) {
				t.taken++
				t.examples = example(t.examples, s.n)
			}
			if known(s) {
				t.relapsed++
				t.twice = example(t.twice, s.n)
			}
		}
	}
	t.received = len(seen)
	made := map[int]bool{}
	for _, p := range promised {
		made[p.n] = true
	}
	t.promised = len(made)
	for n := range made {
		if _, ok := seen[n]; !ok {
			t.missing = append(t.missing, n)
			t.examples = example(t.examples, n)
		}
	}
	return t
}

// unless returns what judge asks where anew is what the broker doubled.
func unless(anew []sight) func(sight) bool {
	left := map[sight]int{}
	for _, s := range anew {
		left[s]++
	}
	return func(s sight) bool {
		left[s]--
		return left[s] >= 0
	}
}

// nothing is what judge asks where later processes owe no knowledge.
func nothing(sight) bool { return false }

// settledBy returns what judge asks where processes ended gracefully, settled is what
// these had on their last link. What the witness got twice the broker had twice, from
// the publisher or by itself, and what it had released it may begin anew.
func settledBy(settled, released, witnessed []sight) func(sight) bool {
	had, over, times := map[sight]bool{}, map[int]bool{}, map[int]int{}
	for _, s := range settled {
		had[s] = true
	}
	for _, s := range released {
		over[s.n] = true
	}
	for _, s := range witnessed {
		times[s.n]++
	}
	return func(s sight) bool { return had[s] && !over[s.n] && times[s.n] < 2 }
}

// known returns what judge asks at QoS 2 about a message that a later process was
// handed again: an earlier one had answered it by PUBREC, so that it was durable
// there, and no PUBREL had come, behind which the broker may begin it anew.
func known(answered, released, anew []sight) func(sight) bool {
	by, over, begun := map[int]int{}, map[int]int{}, map[sight]bool{}
	for _, s := range answered {
		if _, ok := by[s.n]; !ok {
			by[s.n] = s.incarnation
		}
	}
	for _, s := range released {
		if _, ok := over[s.n]; !ok {
			over[s.n] = s.incarnation
		}
	}
	for _, s := range anew {
		begun[s] = true
	}
	return func(s sight) bool {
		first, ok := by[s.n]
		end, ended := over[s.n]
		return ok && first < s.incarnation && !(ended && end < s.incarnation) && !begun[s]
	}
}

// example adds a number as long as there are few.
func example(few []int, n int) []int {
	if len(few) < 10 {
		few = append(few, n)
	}
	return few
}
