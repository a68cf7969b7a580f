package mqtt

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// up makes l the current link: subscribe appends the SUBSCRIBE and UNSUBSCRIBE
// packets that are due, then comes what is to be sent again, then the queue.
// Before that the window is told whether the server still has the session.
func (o *outbound) up(l *sender, sessionPresent bool, randomID uint16, subscribe func()) {
	o.mu.Lock()
	defer o.unlock()
	if !sessionPresent {
		o.sessionLost()
	} else if randomID != 0 && o.win.ids.Len() == 0 {
		o.win.lastID = randomID
	}
	limit := min(l.agreed.receiveMaximum, o.cfg.inflight5)
	if l.version != V5 {
		limit = o.cfg.inflight3
	}
	l.window = limit
	if l.probe {
		limit, l.silent, l.probeUntil = 1, true, o.seq
	}
	o.tick = time.Now()
	o.link = l
	o.win.up(l.no, limit)
	o.win.hold = l.probe
	o.inbox, o.inboxNo = o.inbox[:0], l.no
	subscribe()
	o.pump()
}

// sessionLost takes the window apart: what was under way is published anew or
// fails, by policy; what was never sent stays queued behind it.
func (o *outbound) sessionLost() {
	o.unnumber()
	var anew recordList
	o.win.forget(func(r *record) {
		switch {
		case r.fut == nil: // set aside, its Future has failed long ago
			o.unkeepAside(r)
			o.recycle(r)
		case r.state == recReleased:
			// The server owned it at PUBREC; publishing anew would double it.
			o.finish(r, ErrSessionLost)
		case o.publishAnew(r):
			r.state, r.id = recQueued, 0
			o.unkeepExchange(r)
			r.fut.advance(o.waitingStage(), 0)
			anew.pushBack(r)
		default:
			o.finish(r, ErrSessionLost)
		}
	})
	for r := anew.tail; r != nil; r = anew.tail {
		anew.remove(r)
		o.q12.pushFront(r)
	}
}

// waitingStage is the stage of a message that waits to be published anew.
func (o *outbound) waitingStage() Stage {
	if o.keep != nil {
		return StageStored // it is, or it would not have been sent
	}
	return StageQueued
}

func (o *outbound) publishAnew(r *record) bool {
	policy := o.cfg.lost1
	if r.qos == 2 {
		policy = o.cfg.lost2
	}
	if policy == LostDefault {
		return r.qos == 1
	}
	return policy == LostPublish
}

// down ends l as the current link. Nothing is appended to its buffer from here
// on; QoS 0 messages still in it fail.
func (o *outbound) down(l *sender, cause error) {
	o.mu.Lock()
	defer o.unlock()
	if o.link != l {
		return
	}
	o.takeLast(l)
	l.unanswered = o.unansweredLocked()
	if l.proceed != nil {
		l.proceed.Stop()
	}
	if l.closeTimer != nil {
		l.closeTimer.Stop()
	}
	o.link = nil
	o.win.down(o.dropControl)
	for _, c := range o.ctlWait {
		c.drop()
	}
	o.ctlWait = nil
	if !o.cfg.keepQoS0 {
		o.fail0(linkLost(cause))
	}
	for _, b := range append([]*outbuf{l.out}, l.more...) {
		b.resolve(&PublishError{Err: linkLost(cause)}) // nothing of it was written
		o.release(b)
	}
	l.out, l.more = new(outbuf), nil
	o.countMisanswers()
	o.admitWaiters()
	o.checkFlush()
}

// refuse makes every later publish fail with err. With it the waiting ones fail too.
func (o *outbound) refuse(err error) {
	o.mu.Lock()
	defer o.unlock()
	if o.closed != nil {
		return
	}
	o.closed = err
	for r := o.waiters.head; r != nil; r = o.waiters.head {
		o.refuseWaiter(r, err)
	}
}

// shutdown fails everything unresolved with err and lets the goroutine end. No
// link may be up any more.
func (o *outbound) shutdown(err error) {
	o.refuse(err)
	o.mu.Lock()
	hangs := o.keep != nil && o.keep.running
	if hangs {
		o.undeleted()
	}
	aging := false
	fail := func(r *record) {
		if r.fut == nil {
			o.recycle(r)
			return
		}
		o.gaveUp = true
		aging = aging || r.expires != 0 && r.staged > durNone
		if hangs && r.staged > durNone {
			r.saved = max(r.saved, durMessage) // its commit may still go through
		}
		r.staged = durNone // what the store holds stays there
		o.finish(r, err)
	}
	o.win.forget(fail)
	for _, l := range []*recordList{&o.q0, &o.numbered, &o.q12} {
		for r := l.head; r != nil; r = l.head {
			numbered := l == &o.numbered
			o.unqueue(r)
			if numbered {
				o.unkeepExchange(r) // not in flight: a session that is lost does not fail it
			}
			fail(r)
		}
	}
	if aging && !hangs {
		o.keep.keepClock() // so that the next process knows how old they are
		o.commitSoon()
	}
	o.final = true
	o.unlock()
	o.nudge()
}

// dropControl ends a control exchange with its link.
func (o *outbound) dropControl(r *record) {
	c := r.ctl
	o.recycle(r)
	c.drop()
}

// control sends a SUBSCRIBE or UNSUBSCRIBE on the current link, as soon as a
// packet identifier is free and, on a link that probes, it is its turn. It returns false when there is no link: the caller
// keeps what it wants and is asked again on the next.
func (o *outbound) control(c *control) bool {
	o.mu.Lock()
	defer o.unlock()
	if o.link == nil || o.link.closing {
		return false
	}
	o.sendControl(c)
	return true
}

// sendControl is control with the lock held.
func (o *outbound) sendControl(c *control) {
	if o.link.closing {
		c.drop() // its DISCONNECT is in the buffer already [MQTT-3.14.4-1]
		return
	}
	o.ctlWait = append(o.ctlWait, c)
	o.waitingControls()
}

// waitingControls sends the controls that wait, as far as they may go.
func (o *outbound) waitingControls() {
	for len(o.ctlWait) > 0 && o.win.freeID() && !o.awaitsTurnLocked() {
		c := o.ctlWait[0]
		o.ctlWait = o.ctlWait[1:]
		o.putControl(c)
	}
	if o.link.probe {
		o.holdPublishesLocked(o.link)
	}
}

// putControl appends c to the buffer of the current link.
func (o *outbound) putControl(c *control) {
	l := o.link
	r := o.arena.record()
	r.exchange = exchange{ctl: c, qos: 1, sentAt: time.Now()}
	c.sent, l.newestCtl = r.sentAt, c
	o.win.take(r)
	l.out.buf = c.encode(l.out.buf, l.version, r.id)
	l.wakeIdleLocked()
}

// sentAt returns when c was sent, the zero time while it waits.
func (o *outbound) sentAt(c *control) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return c.sent
}

// countMisanswers counts the link that ends for the publishes that were answered
// wrongly on it. What is given up keeps its packet identifier, since the server may
// hold a part of the exchange.
func (o *outbound) countMisanswers() {
	for _, l := range []*recordList{&o.win.order, &o.win.released} {
		for r := l.head; r != nil; {
			next := r.next
			if r.misanswered {
				r.misanswered = false
				if r.misanswers++; r.misanswers >= misanswerLimit {
					o.win.setAside(r)
					o.settle(r, misanswered(""))
				}
			}
			r = next
		}
	}
}

// restore makes r what outbound goes on with. It is called before anything else.
func (o *outbound) restore(r *restored) {
	for _, rec := range append(r.outgoing, r.orphans...) {
		o.adopt(rec)
	}
	released := make([]*record, 0, len(r.released))
	for rec := range r.released {
		released = append(released, rec)
	}
	slices.SortFunc(released, func(a, b *record) int { return cmp.Compare(r.released[a], r.released[b]) })
	for _, rec := range released {
		o.win.released.pushBack(rec)
	}
	o.keep.resident, o.keep.releases = r.bytes, r.releases
	o.keep.clock = r.clock
	if r.unknownID {
		// The server may wait for the PUBREL of that one, and would take a new
		// message of QoS 2 that has it for the old one: begin elsewhere.
		o.win.lastID = uint16(rand.IntN(maxPacketID))
	}
	for _, d := range r.givenUp {
		o.stats.dropped++
		d.Total = o.stats.dropped
		o.log(d)
	}
}

// adopt takes in one record; the released ones go to their list afterwards.
func (o *outbound) adopt(rec *record) {
	w := &o.win
	rec.queue = o.arena.queue
	if rec.id != 0 {
		w.ids.Set(rec.id, rec)
		w.lastID = rec.id // the newest last
	}
	if rec.state == recAside {
		w.aside.pushBack(rec)
		return
	}
	o.seq++
	rec.seq = o.seq
	o.accepted++
	o.bytes += rec.cost
	rec.fut = o.arena.future()
	rec.fut.message = rec
	rec.fut.stage, rec.fut.kept, rec.fut.id = StageStored, true, rec.id
	if rec.appKey != "" {
		o.key(rec)
	}
	switch rec.state {
	case recQueued:
		o.q12.pushBack(rec)
		o.watchExpiry(rec)
	case recSent:
		rec.fut.stage = StageSent
		w.order.pushBack(rec)
	case recReleased:
		rec.fut.stage = StageReceived
	}
}

// probesLink reports whether the current link probes, so that a SUBSCRIBE or
// UNSUBSCRIBE may have one filter only.
func (o *outbound) probesLink() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.link != nil && o.link.probe
}

// awaitsTurnLocked reports whether the next SUBSCRIBE or UNSUBSCRIBE has to wait on a
// link that probes.
func (o *outbound) awaitsTurnLocked() bool {
	return o.link.probe && (o.link.silent || o.lateInLocked(o.link, true) > 0)
}

// lateInLocked returns how long l, which probes, still waits for the answer to its
// newest SUBSCRIBE or UNSUBSCRIBE, and to a publish when publishes is set: 0 or less
// when there is none to wait for.
func (o *outbound) lateInLocked(l *sender, publishes bool) (late time.Duration) {
	if l.newestCtl != nil {
		late = probeWait - time.Since(l.newestCtl.sent)
	}
	if publishes && o.win.quota < o.win.limit {
		late = max(late, probeWait-time.Since(l.lastSent))
	}
	return late
}

// holdPublishesLocked decides whether publishes have to wait on l, which probes, and
// looks again when the answer that they wait for is late. They do not wait for a
// SUBSCRIBE that needs a packet identifier of theirs.
func (o *outbound) holdPublishesLocked(l *sender) {
	waits := len(o.ctlWait) > 0 && o.win.freeID()
	late := o.lateInLocked(l, waits)
	o.win.hold = l.silent || waits || late > 0
	if l.silent || !o.win.hold {
		return
	}
	if l.proceed == nil {
		l.proceed = time.AfterFunc(late, func() { o.proceed(l) })
	} else {
		l.proceed.Reset(late)
	}
}

// proceed sends what waited for an answer that is late.
func (o *outbound) proceed(l *sender) {
	o.mu.Lock()
	defer o.unlock()
	if o.link == l {
		o.pump()
	}
}

// endSilence lets l, which has lived for probeTime, send its first packet.
func (o *outbound) endSilence(l *sender) {
	o.mu.Lock()
	defer o.unlock()
	if o.link != l || !l.silent {
		return
	}
	l.silent = false
	o.tick = time.Now()
	o.pump()
}

// probePassedLocked reports whether every publish that was there when the link
// began is through.
func (o *outbound) probePassedLocked() bool {
	for _, r := range []*record{o.win.order.head, o.win.released.head, o.numbered.head, o.q12.head} {
		if r != nil && r.seq <= o.link.probeUntil {
			return false
		}
	}
	return true
}

// unansweredLocked returns the packet that alone is unanswered on the current link,
// which has died, none when there are several or it was sent too long ago. A PUBREL
// makes several of any, and is none itself.
func (o *outbound) unansweredLocked() probedPacket {
	for r := o.win.released.head; r != nil; r = r.next {
		if r.wire == o.win.link && !r.unsaved() {
			return probedPacket{}
		}
	}
	var only *record
	n := 0
	for r := o.win.order.head; r != nil && n < 2; r = r.next {
		if r.quota {
			only = r
			n++
		}
	}
	if o.win.controls > 0 {
		o.win.ids.Each(func(r *record) {
			if r.state == recControl && !r.ctl.answeredLast {
				only = r
				n++
			}
		})
	}
	switch {
	case n != 1 || time.Since(only.sentAt) > probeTime:
		return probedPacket{}
	case only.ctl != nil:
		return probedPacket{packet: only.ctl.packet, filter: only.ctl.filter}
	}
	return probedPacket{packet: codec.PUBLISH, seq: only.seq}
}

// judgeDeath says what the death of l, which is down, tells about the packet that was
// alone unanswered, and sets a publish aside when it killed limit probing links in a
// row. answer is whether the server may have ended l for it.
func (o *outbound) judgeDeath(l *sender, answer bool, limit uint8) (v probeVerdict) {
	o.mu.Lock()
	defer o.unlock()
	if !l.probe {
		return v
	}
	if !answer || l.unanswered == (probedPacket{}) {
		o.accused, o.deaths = probedPacket{}, 0
		v.cleared = true
		return v
	}
	if o.accused != l.unanswered {
		o.accused, o.deaths = l.unanswered, 0
	}
	v.probedPacket, v.accused = o.accused, true
	if o.deaths++; o.deaths < limit {
		return v
	}
	o.accused, o.deaths = probedPacket{}, 0
	v.aside = true
	if v.packet == codec.PUBLISH {
		o.setAsideLocked(&v)
	}
	return v
}

// setAsideLocked takes the publish of v out of what is sent again.
func (o *outbound) setAsideLocked(v *probeVerdict) {
	for r := o.win.order.head; r != nil; r = r.next {
		if r.seq == v.seq {
			v.topic, v.key, v.id = r.topic, r.appKey, r.id
			o.win.setAside(r)
			o.settle(r, ErrSetAside)
			return
		}
	}
}
