package chaos

// tally is what became of the messages of one lane.
type tally struct {
	promised, received int // different messages

	lost    int // promised, and not received
	doubled int // received more than once, and not because a receiver was killed
	reorder int // received for the first time after a later one
	again   int // received again, possibly because the receiver was killed before its acknowledgement

	examples []int // numbers of what is wrong, some
}

// judge compares promises with the sights of a subscriber, whose processes each
// may have been killed with messages in hand.
func judge(promised, sights []sight) tally {
	var t tally
	type last struct {
		incarnation int
		at          int // position among the sights of that process
	}
	seen := map[int]last{}
	position, highest := map[int]int{}, 0 // position: sights by process
	for _, s := range sights {
		if s.n == endMark {
			continue
		}
		at := position[s.incarnation]
		position[s.incarnation]++
		before, again := seen[s.n]
		seen[s.n] = last{s.incarnation, at}
		switch {
		case !again && s.n < highest:
			t.reorder++
			t.example(s.n)
		case !again:
			highest = s.n
		case before.incarnation == s.incarnation, position[before.incarnation]-before.at > inflight:
			// Within one process, or when the one before had been given so many more
			// that the broker must have had its acknowledgement.
			t.doubled++
			t.example(s.n)
		default:
			t.again++
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
			t.lost++
			t.example(n)
		}
	}
	return t
}

func (t *tally) example(n int) {
	if len(t.examples) < 10 {
		t.examples = append(t.examples, n)
	}
}
