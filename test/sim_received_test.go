package mqtt_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/mqtt"
)

// simSub is one subscription; world.mu guards what changes.
type simSub struct {
	p         *simProcess
	number    int
	sub       *mqtt.Subscription
	filters   []string
	slow      mqtt.SlowPolicy
	limit     int // messages; 0: the default
	early     int // messages that came before SUBACK, to which no limit applies
	manual    bool
	live      bool
	since     int            // messages from here on are later than it
	hands     []int          // times Conn.Unsubscribe was called for the filters, when it was asked for
	due       map[int]bool   // messages that must come
	got       map[int]int    // how often each came
	last      [2]int         // the newest of QoS 0, and of QoS 1 and 2
	unacked   []mqtt.Message // under manual acknowledgement
	atEnd     bool           // it unsubscribes when its context ends
	takesOver *simHandover   // what it took over, nil for nothing
}

// simHandover is what must come to the next subscription of a filter, unless one of
// those that left it reads it yet from its channel.
type simHandover struct {
	from  []*simSub    // the one that was detached, and those that it took over from
	due   map[int]bool // what was due to them, and what is published for the filter until Subscribe returns
	until time.Time    // a Subscribe before has it
	only  bool         // no other can have left a message to that Subscribe
}

// has reports whether one of those that handed over got message n.
func (l *simHandover) has(n int) bool {
	return slices.ContainsFunc(l.from, func(o *simSub) bool { return o.got[n] > 0 })
}

// left is what of the handover neither those before nor s got.
func (l *simHandover) left(s *simSub) (missing []int) {
	for n := range l.due {
		if !l.has(n) && s.got[n] == 0 {
			missing = append(missing, n)
		}
	}
	slices.Sort(missing)
	return missing
}

// String names the subscriptions that hand over.
func (l *simHandover) String() string {
	var names []string
	for _, o := range l.from {
		names = append(names, strconv.Itoa(o.number))
	}
	return strings.Join(names, ", ")
}

// checkHeld is I6. A pump's handful and the reader's run are on their way.
func (p *simProcess) checkHeld(s *simSub) {
	if s.limit == 0 {
		return
	}
	window := p.w.plan.receiveMax
	if p.w.plan.version != mqtt.V5 {
		window = max(20, p.w.plan.serverWindow)
	}
	if p.w.plan.inbox {
		window *= 2 // what is acknowledged and on its way from the store
	}
	// A SUBACK may stand behind messages, so that these are taken whatever the
	// limit. What a lost session left un-acked is held beside the next session's window;
	// the limit in bytes bounds them all.
	if st := s.sub.Stats(); st.Pending > s.early+s.limit+window*p.w.sessions()+32 {
		p.w.fail("I6: subscription %d holds %d messages, its limit is %d, the window %d", s.number, st.Pending, s.limit, window)
	}
}

// checkEnd is I5.
func (p *simProcess) checkEnd(s *simSub) {
	<-s.sub.Done()
	err := s.sub.Err()
	if err == nil || errors.Is(err, mqtt.ErrSlowConsumer) && s.slow == mqtt.SlowBlock {
		p.w.fail("I5: subscription %d ended with %v", s.number, err)
	}
	if errors.Is(err, mqtt.ErrSlowConsumer) {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		p.w.note("subscription %d is evicted", s.number)
		s.live, s.takesOver = false, nil
		clear(s.due)
	}
}

// got takes one message in: I2 and I3.
func (p *simProcess) got(s *simSub, m mqtt.Message) {
	w := p.w
	n, err := strconv.Atoi(string(m.Payload))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || n >= w.in || !slices.ContainsFunc(s.filters, func(f string) bool { return simMatch(f, m.Topic) }) {
		w.t.Errorf("subscription %d got %q on %q", s.number, m.Payload, m.Topic)
		return
	}
	delete(s.due, n)
	p.onceOverProcesses(m)
	w.note("subscription %d gets message %d on %s, QoS %d, DUP %t", s.number, n, m.Topic, m.QoS, m.Dup())
	if s.manual && m.QoS > 0 {
		s.unacked = append(s.unacked, m)
	}
	told := !w.plan.copies
	twice := n < s.since && (m.QoS == 0 || m.Redelivered())
	older := twice || n < s.since && m.Dup()
	if s.got[n]++; s.got[n] > 1 {
		if told && !twice && (m.QoS != 1 || !m.Dup()) {
			w.broken("I2: subscription %d got message %d at QoS %d %d times, DUP %t", s.number, n, m.QoS, s.got[n], m.Dup())
		}
		return
	}
	if l := s.takesOver; told && m.QoS == 2 && l != nil && l.only && l.has(n) {
		w.broken("I2: subscription %d got message %d of QoS 2, and one of %v, which it took over from, had it", s.number, n, l)
	}
	class := min(int(m.QoS), 1)
	if n < s.last[class] && s.slow != mqtt.SlowLatest && told && !older {
		w.broken("I3: subscription %d got message %d at QoS %d after %d", s.number, n, m.QoS, s.last[class])
	}
	s.last[class] = max(s.last[class], n)
}

// broken is fail with mu held.
func (w *world) broken(format string, args ...any) {
	w.note("FAIL "+format, args...)
	w.t.Errorf(format, args...)
}

// acknowledge acknowledges what s got, in random order: I4.
func (p *simProcess) acknowledge(s *simSub, rng *rand.Rand) {
	for {
		select {
		case <-time.After(p.ackPause(rng)):
		case <-s.sub.Done():
			return
		}
		p.w.mu.Lock()
		all := s.unacked
		s.unacked = nil
		p.w.mu.Unlock()
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			err := m.Ack()
			p.w.mu.Lock()
			must := s.live && !p.over && p.w.plan.durable && p.w.lossesAt[atoi(m)] == p.w.losses && p.w.plan.version != mqtt.V31
			p.w.mu.Unlock()
			if must && err != nil {
				p.w.fail("I4: Ack of message %s by subscription %d: %v", m.Payload, s.number, err)
			}
			if m.Ack() == nil {
				p.w.fail("I4: the second Ack of message %s by subscription %d returned nil", m.Payload, s.number)
			}
		}
	}
}

// lastMessages is the end of C2: every live subscription gets them, QoS 0 too.
func (w *world) lastMessages(p *simProcess) {
	for qos := range mqtt.QoS(3) {
		for _, topic := range simTopics {
			n := w.publishIn(topic, qos)
			w.mu.Lock()
			for _, s := range w.subs {
				if s.got[n] == 0 && s.p == p && s.sub.Err() == nil && !s.byHand() &&
					slices.ContainsFunc(s.filters, func(f string) bool { return simMatch(f, topic) }) {
					s.due[n] = true
				}
			}
			w.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// checkSubscriptions ends I1 before the Conn does.
func (p *simProcess) checkSubscriptions() {
	w := p.w
	hidden := w.hidden()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.subs {
		if hidden {
			clear(s.due)
		}
		if len(s.due) > 0 && s.sub.Err() == nil {
			w.broken("I1: subscription %d (%v) never got %v", s.number, s.filters, fmt.Sprint(s.due))
		}
		if l := s.takesOver; l != nil && !hidden && s.sub.Err() == nil && len(l.left(s)) > 0 {
			w.broken("I1: subscription %d (%v), which took over from %v, never got %v", s.number, s.filters, l, l.left(s))
		}
		clear(s.due)
	}
	if len(w.kept) > 0 && !hidden {
		w.broken("I1: the keeper never got %v", fmt.Sprint(w.kept))
	}
}

// checkIn looks at what is left once all has ended.
func (w *world) checkIn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.subs {
		if s.sub.Err() == nil {
			w.broken("I5: subscription %d lives on", s.number)
		}
	}
}

// atoi is the number of a message of the server.
func atoi(m mqtt.Message) int {
	n, _ := strconv.Atoi(string(m.Payload))
	return n
}

// ackPause is how long messages wait for their acknowledgement.
func (p *simProcess) ackPause(rng *rand.Rand) time.Duration {
	select {
	case <-p.hurry:
		return time.Millisecond
	default:
		return time.Duration(rng.IntN(2000)) * time.Millisecond
	}
}
