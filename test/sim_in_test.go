package mqtt_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/mqtt"
)

var (
	simTopics  = []string{"in/a", "in/b", "in/a/x", "in"}
	simFilters = []string{"in/#", "in/+", "in/a", "in/b", "in/a/#", "+/a", "in/a/x"}
)

// serverPublishes lets messages arrive until stop.
func (w *world) serverPublishes(rng *rand.Rand, stop <-chan struct{}) {
	for {
		d := []int{1, 100, 2000}[rng.IntN(3)]
		select {
		case <-time.After(time.Duration(rng.IntN(d)) * time.Millisecond):
			for range 1 + rng.IntN(4)*rng.IntN(4) {
				w.publishIn(simTopics[rng.IntN(len(simTopics))], mqtt.QoS(rng.IntN(3)))
			}
		case <-stop:
			return
		}
	}
}

// publishIn publishes one message, and notes which subscriptions must get it.
func (w *world) publishIn(topic string, qos mqtt.QoS) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.in
	w.in++
	w.lossesAt = append(w.lossesAt, w.losses)
	info, _ := w.srv.Session("c")
	granted, lowest := map[string]byte{}, byte(2)
	var highest byte
	for _, s := range info.Subscriptions {
		if simMatch(s.Filter, topic) {
			granted[s.Filter] = s.QoS
			highest, lowest = max(highest, s.QoS), min(lowest, s.QoS)
		}
	}
	if granted[keeperFilter] > 0 && qos > 0 {
		w.kept[n] = true
	}
	if w.plan.copies {
		highest = lowest // which copy is whose is not told everywhere
	}
	if len(granted) > 0 && min(highest, byte(qos)) > 0 {
		for _, s := range w.subs {
			if s.live && s.slow != mqtt.SlowLatest && slices.ContainsFunc(s.filters, func(f string) bool { _, ok := granted[f]; return ok }) {
				s.due[n] = true
			}
		}
		for f := range granted {
			if l := w.handovers[f]; l != nil && time.Now().Before(l.until) {
				l.due[n] = true
			}
		}
		for _, s := range w.asking {
			if _, ok := granted[s.filters[0]]; ok && s.takesOver != nil {
				s.takesOver.due[n] = true
			}
		}
	}
	if err := w.srv.Publish(topic, []byte(strconv.Itoa(n)), byte(qos), false); err != nil {
		w.t.Error(err)
	}
	return n
}

// simMatch is section 4.7 for the filters of the simulation.
func simMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t):
			return false
		case level != "+" && level != t[i]:
			return false
		}
		if i == len(t)-1 && i+2 == len(f) && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(t)
}

// voidAll forgets what must come: the session is lost, or the process. mu is held.
func (w *world) voidAll() {
	for _, s := range append(slices.Clone(w.subs), w.asking...) {
		clear(s.due)
		s.takesOver = nil
	}
	clear(w.handovers)
}

// slot subscribes, reads and ends subscriptions, one after the other. The one it
// has when the process stops being busy lives on.
func (p *simProcess) slot(rng *rand.Rand) {
	again := "" // the filter of one that was detached, to take over from it
	for p.pause(rng, 3*time.Second) {
		ctx, cancel := context.WithCancel(p.w.t.Context())
		s := p.subscribe(ctx, cancel, again, rng)
		again = ""
		if s == nil {
			cancel()
			continue
		}
		if !p.pauseOrEnd(rng, s) {
			p.actors.Go(func() { <-s.sub.Done(); cancel() })
			return
		}
		if p.endSub(ctx, cancel, s, rng) && rng.IntN(4) > 0 {
			again = s.filters[0]
		}
		cancel()
	}
}

// pauseOrEnd lets s live for a while; false: for ever.
func (p *simProcess) pauseOrEnd(rng *rand.Rand, s *simSub) bool {
	for range 1 + rng.IntN(6) {
		if !p.pause(rng, 15*time.Second) {
			return false
		}
		switch rng.IntN(4) {
		case 0:
			s.sub.Pause()
		case 1:
			s.sub.Resume()
		}
		p.checkHeld(s)
	}
	return true
}

// subscribe makes a subscription, of filters at random or of one that is given; nil
// when that failed, for a reason.
func (p *simProcess) subscribe(ctx context.Context, cancel context.CancelFunc, again string, rng *rand.Rand) *simSub {
	w := p.w
	s, filters, opts := p.newSub(again, rng)
	impatient := rng.IntN(5) == 0
	if impatient {
		time.AfterFunc(time.Duration(rng.IntN(3000))*time.Millisecond, cancel)
	}
	w.mu.Lock()
	for _, f := range s.filters {
		s.hands = append(s.hands, w.byHand[f])
		p.asks[f]++
		if l := w.handovers[f]; l != nil && time.Now().Before(l.until) && len(s.filters) == 1 && s.slow != mqtt.SlowLatest {
			s.takesOver = l
			// The inbox keeps what any that ended or failed had not handed over.
			l.only = !w.plan.inbox || p.asks[f] == len(l.from)+1
		}
		delete(w.handovers, f)
	}
	losses := w.losses
	w.asking = append(w.asking, s)
	w.note("subscribing to %v", filters)
	w.mu.Unlock()
	sub, err := p.conn.SubscribeMany(ctx, filters, opts...)
	w.mu.Lock()
	w.asking = slices.DeleteFunc(w.asking, func(o *simSub) bool { return o == s })
	w.mu.Unlock()
	if err != nil {
		p.checkSubscribe(err, impatient)
		return nil
	}
	s.sub, s.early = sub, sub.Stats().Pending
	w.mu.Lock()
	defer w.mu.Unlock()
	s.number = len(w.subs)
	s.live = !impatient && !s.byHand()
	if !s.live || w.losses != losses {
		s.takesOver = nil
	}
	s.since = w.in
	w.subs = append(w.subs, s)
	w.note("subscription %d: %v, slow policy %d, limit %d, manual %t", s.number, filters, s.slow, s.limit, s.manual)
	p.read(s, rng.IntN(3), branch(rng))
	return s
}

// newSub draws what a subscription is to be.
func (p *simProcess) newSub(again string, rng *rand.Rand) (s *simSub, filters []mqtt.Filter, opts []mqtt.SubscribeOption) {
	s = &simSub{p: p, due: map[int]bool{}, got: map[int]int{}, last: [2]int{-1, -1}}
	for _, i := range rng.Perm(len(simFilters))[:1+rng.IntN(2)*rng.IntN(2)] {
		s.filters = append(s.filters, simFilters[i])
	}
	least := 0
	if again != "" {
		s.filters, least = []string{again}, 1
	}
	for _, f := range s.filters {
		filters = append(filters, mqtt.Filter{Pattern: f, QoS: mqtt.QoS(least + rng.IntN(3-least))})
	}
	s.slow, s.manual = mqtt.SlowPolicy(rng.IntN(5)), rng.IntN(3) == 0
	if again != "" && s.slow == mqtt.SlowLatest {
		s.slow = mqtt.SlowBlock
	}
	opts = []mqtt.SubscribeOption{mqtt.WithSlowPolicy(s.slow), mqtt.WithBuffer(rng.IntN(8))}
	if rng.IntN(2) == 0 {
		s.limit = 5 + rng.IntN(50)
		opts = append(opts, mqtt.WithPendingLimit(s.limit, 0))
	}
	if s.manual {
		opts = append(opts, mqtt.WithManualAck())
	}
	if rng.IntN(4) == 0 {
		s.atEnd = true
		opts = append(opts, mqtt.WithUnsubscribeAtEnd())
	}
	return s, filters, opts
}

// checkSubscribe fails the run unless err is one that Subscribe may return then.
func (p *simProcess) checkSubscribe(err error, impatient bool) {
	var timeout interface{ Timeout() bool }
	known := impatient && errors.Is(err, context.Canceled) || errors.As(err, &timeout) ||
		errors.Is(err, mqtt.ErrClosed) && p.ended() || errors.Is(err, mqtt.ErrUnsubscribed) ||
		errors.Is(err, mqtt.ErrSlowConsumer)
	if _, store := errors.AsType[*mqtt.StoreError](err); !known && !(store && p.ended()) {
		p.w.fail("Subscribe: %v", err)
	}
}

// byHand reports whether Conn.Unsubscribe has taken filters from s. mu is held.
func (s *simSub) byHand() bool {
	for i, f := range s.filters {
		if s.p.w.byHand[f] != s.hands[i] {
			return true
		}
	}
	return false
}

// endSub ends s in one of the ways of the application, and reports whether its
// context did it.
func (p *simProcess) endSub(ctx context.Context, cancel context.CancelFunc, s *simSub, rng *rand.Rand) (detach bool) {
	w := p.w
	w.mu.Lock()
	w.note("subscription %d ends", s.number)
	detach = rng.IntN(2) == 0
	if detach {
		w.handOver(s)
	}
	s.live, s.takesOver = false, nil
	clear(s.due)
	w.mu.Unlock()
	if detach {
		cancel()
	} else {
		timeout, done := context.WithTimeout(ctx, 5*time.Second)
		if err := s.sub.Unsubscribe(timeout); err != nil && timeout.Err() == nil {
			w.fail("Unsubscribe: %v", err)
		}
		done()
	}
	<-s.sub.Done()
	return detach
}

// handOver notes what the next subscription of the filter of s must get. mu
// is held.
func (w *world) handOver(s *simSub) {
	f := s.filters[0]
	if !w.plan.durable || s.atEnd || !s.live || len(s.filters) > 1 || s.slow == mqtt.SlowLatest {
		return
	}
	for _, o := range append(slices.Clone(w.subs), w.asking...) {
		if o != s && (o.sub == nil || o.sub.Err() == nil) && slices.Contains(o.filters, f) {
			return // that one has the filter, though Subscribe may still wait, and nothing is held
		}
	}
	l := &simHandover{from: []*simSub{s}, due: maps.Clone(s.due), until: time.Now().Add(9 * time.Second)}
	if old := s.takesOver; old != nil {
		l.from = append(l.from, old.from...)
		maps.Copy(l.due, old.due)
	}
	w.handovers[f] = l
}

// unsubscribeByHand is Conn.Unsubscribe of a filter, whichever subscription has it.
func (p *simProcess) unsubscribeByHand(rng *rand.Rand) {
	w, f := p.w, simFilters[rng.IntN(len(simFilters))]
	w.mu.Lock()
	w.note("unsubscribe %s", f)
	w.byHand[f]++
	delete(w.handovers, f)
	for _, s := range w.subs {
		if slices.Contains(s.filters, f) {
			s.live, s.takesOver = false, nil
			clear(s.due)
		}
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	if _, err := p.conn.Unsubscribe(ctx, f); err != nil && ctx.Err() == nil && !p.ended() {
		w.fail("Conn.Unsubscribe: %v", err)
	}
}

// read consumes s in one of its forms until its end. mu is held.
func (p *simProcess) read(s *simSub, form int, rng *rand.Rand) {
	if s.manual {
		acks := branch(rng)
		p.actors.Go(func() { p.acknowledge(s, acks) })
	}
	pace := []time.Duration{0, 0, 20 * time.Millisecond, time.Second}[rng.IntN(4)]
	stops := rng.IntN(3) == 0
	body := func(m mqtt.Message) {
		p.got(s, m)
		d := time.Duration(rng.Int64N(int64(pace + 1)))
		if stops && rng.IntN(30) == 0 {
			d = time.Duration(rng.IntN(45)) * time.Second
		}
		if d > 0 {
			select {
			case <-time.After(d):
			case <-p.hurry:
			case <-s.sub.Done():
			}
		}
	}
	switch form {
	case 0:
		p.actors.Go(func() {
			for m := range s.sub.C() {
				body(m)
			}
			p.checkEnd(s)
		})
	case 1:
		p.actors.Go(func() {
			for m := range s.sub.All() {
				body(m)
			}
			p.checkEnd(s)
		})
	case 2:
		if err := s.sub.Handle(body); err != nil {
			p.w.t.Errorf("Handle: %v", err)
		}
		p.actors.Go(func() { <-s.sub.Done(); p.checkEnd(s) })
	}
}

// filtersAgree reports whether the server has what the subscriptions that live
// wish for, and nothing else unless a former process left it.
func (p *simProcess) filtersAgree() bool {
	w := p.w
	info, _ := w.srv.Session("c")
	have := map[string]bool{}
	for _, s := range info.Subscriptions {
		have[s.Filter] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	wished := map[string]bool{}
	if w.plan.keeper {
		wished[keeperFilter] = true
	}
	for _, s := range w.subs {
		for i, f := range s.filters {
			if s.p == p && s.sub.Err() == nil && w.byHand[f] == s.hands[i] {
				if wished[f] = true; !have[f] {
					return false
				}
			}
		}
	}
	return w.deaths > 0 || len(wished) == len(have)
}
