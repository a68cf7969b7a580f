package mqtt

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file begins and ends links for outbound: what an earlier process or link left open
// goes on, requests for filters are sent, and a link that probes sends one packet at a time.

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
	o.journal.resident, o.journal.releases = r.bytes, r.releases
	o.journal.clock = r.clock
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
	rec.home = &o.arena
	if rec.id != 0 {
		w.ids.Set(rec.id, rec)
		w.lastID = rec.id // the newest last
	}
	if rec.state == recQuarantined {
		w.quarantined.pushBack(rec)
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
		o.keyLocked(rec)
	}
	switch rec.state {
	case recQueued:
		o.q12.pushBack(rec)
		o.watchExpiryLocked(rec)
	case recSent:
		rec.fut.stage = StageSent
		w.order.pushBack(rec)
	case recReleased:
		rec.fut.stage = StageReceived
	}
}

// up makes l the current link: subscribe appends the SUBSCRIBE and UNSUBSCRIBE
// packets that are due, then comes what is to be sent again, then the queue.
// Before that the window is told whether the server still has the session.
func (o *outbound) up(l *sender, sessionPresent bool, randomID uint16, subscribe func()) {
	o.mu.Lock()
	defer o.unlock()
	if !sessionPresent {
		o.sessionLostLocked()
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
	o.now = time.Now()
	o.link = l
	o.win.up(l.no, limit)
	o.win.hold = l.probe
	o.inbox, o.inboxNo = o.inbox[:0], l.no
	subscribe()
	o.pumpLocked()
}

// sessionLostLocked takes the window apart: messages in flight are published anew or
// fail, by policy; messages that were never sent stay queued behind them.
func (o *outbound) sessionLostLocked() {
	o.withdrawIDsLocked()
	var anew recordList
	o.win.forget(func(r *record) {
		switch {
		case r.fut == nil: // quarantined, its Future has failed long ago
			o.deleteQuarantinedLocked(r)
			o.recycleLocked(r)
		case r.state == recReleased:
			// The server owned it at PUBREC; publishing anew would double it.
			o.finishLocked(r, ErrSessionLost)
		case o.publishAnew(r):
			r.state, r.id = recQueued, 0
			o.deleteExchangeLocked(r)
			r.fut.advance(o.waitingStage(), 0)
			anew.pushBack(r)
		default:
			o.finishLocked(r, ErrSessionLost)
		}
	})
	for r := anew.tail; r != nil; r = anew.tail {
		anew.remove(r)
		o.q12.pushFront(r)
	}
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

// waitingStage is the stage of a message that waits to be published anew.
func (o *outbound) waitingStage() Stage {
	if o.journal != nil {
		return StageStored // it is, or it would not have been sent
	}
	return StageQueued
}

// down ends l as the current link. Nothing is appended to its buffer from here
// on; QoS 0 messages still in it fail.
func (o *outbound) down(l *sender, cause error) {
	o.mu.Lock()
	defer o.unlock()
	if o.link != l {
		return
	}
	o.takeLastAcksLocked(l)
	l.unanswered = o.unansweredLocked()
	if l.proceed != nil {
		l.proceed.Stop()
	}
	if l.closeTimer != nil {
		l.closeTimer.Stop()
	}
	o.link = nil
	o.win.down(o.dropControlLocked)
	for _, c := range o.ctlWait {
		c.drop()
	}
	o.ctlWait = nil
	if !o.cfg.keepQoS0 {
		o.fail0Locked(linkLost(cause))
	}
	for _, b := range append([]*sendBuffer{l.out}, l.more...) {
		b.resolve(&PublishError{Err: linkLost(cause)}) // nothing of it was written
		o.releaseLocked(b)
	}
	l.out, l.more = new(sendBuffer), nil
	o.countMisanswersLocked()
	o.admitWaitersLocked()
	o.checkFlushLocked()
}

// countMisanswersLocked counts the link that ends for the publishes that were answered
// wrongly on it. A publish that is given up keeps its packet identifier, since the server may
// hold a part of the exchange.
func (o *outbound) countMisanswersLocked() {
	for _, l := range []*recordList{&o.win.order, &o.win.released} {
		for r := l.head; r != nil; {
			next := r.next
			if r.misanswered {
				r.misanswered = false
				if r.misanswers++; r.misanswers >= misanswerLimit {
					o.win.quarantine(r)
					o.resolveLocked(r, misanswered(""))
				}
			}
			r = next
		}
	}
}

// dropControlLocked ends a control exchange with its link.
func (o *outbound) dropControlLocked(r *record) {
	c := r.ctl
	o.recycleLocked(r)
	c.drop()
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
		o.refuseWaiterLocked(r, err)
	}
}

// shutdown fails everything unresolved with err and lets the goroutine end. No
// link may be up any more.
func (o *outbound) shutdown(err error) {
	o.refuse(err)
	o.mu.Lock()
	hangs := o.journal != nil && o.journal.running
	if hangs {
		o.resolveUndeletedLocked()
	}
	aging := false
	fail := func(r *record) {
		if r.fut == nil {
			o.recycleLocked(r)
			return
		}
		o.gaveUp = true
		aging = aging || r.expires != 0 && r.staged > durNone
		if hangs && r.staged > durNone {
			r.saved = max(r.saved, durMessage) // its commit may still go through
		}
		r.staged = durNone // what the store holds stays there
		o.finishLocked(r, err)
	}
	o.win.forget(fail)
	for _, l := range []*recordList{&o.q0, &o.withID, &o.q12} {
		for r := l.head; r != nil; r = l.head {
			numbered := l == &o.withID
			o.unqueueLocked(r)
			if numbered {
				o.deleteExchangeLocked(r) // not in flight: a session that is lost does not fail it
			}
			fail(r)
		}
	}
	if aging && !hangs {
		o.journal.recordClockLocked() // so that the next process knows how old they are
		o.commitSoonLocked()
	}
	o.final = true
	o.unlock()
	o.wakeResolver()
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
	o.sendControlLocked(c)
	return true
}

// sendControlLocked has c sent when it may go.
func (o *outbound) sendControlLocked(c *control) {
	if o.link.closing {
		c.drop() // its DISCONNECT is in the buffer already [MQTT-3.14.4-1]
		return
	}
	o.ctlWait = append(o.ctlWait, c)
	o.waitingControlsLocked()
}

// waitingControlsLocked sends the controls that wait, as far as they may go.
func (o *outbound) waitingControlsLocked() {
	for len(o.ctlWait) > 0 && o.win.freeID() && !o.awaitsTurnLocked() {
		c := o.ctlWait[0]
		o.ctlWait = o.ctlWait[1:]
		o.putControlLocked(c)
	}
	if o.link.probe {
		o.holdPublishesLocked(o.link)
	}
}

// putControlLocked appends c to the buffer of the current link.
func (o *outbound) putControlLocked(c *control) {
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

// proceed sends what waited for an answer that is late.
func (o *outbound) proceed(l *sender) {
	o.mu.Lock()
	defer o.unlock()
	if o.link == l {
		o.pumpLocked()
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
	o.now = time.Now()
	o.pumpLocked()
}

// probePassedLocked reports whether every publish that was there when the link
// began is through.
func (o *outbound) probePassedLocked() bool {
	for _, r := range []*record{o.win.order.head, o.win.released.head, o.withID.head, o.q12.head} {
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
		if r.sentOnLink == o.win.link && !r.unsaved() {
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
// alone unanswered, and quarantines a publish when it killed limit probing links in a
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
	v.quarantined = true
	if v.packet == codec.PUBLISH {
		o.quarantineLocked(&v)
	}
	return v
}

// quarantineLocked takes the publish of v out of what is sent again.
func (o *outbound) quarantineLocked(v *probeVerdict) {
	for r := o.win.order.head; r != nil; r = r.next {
		if r.seq == v.seq {
			v.topic, v.key, v.id = r.topic, r.appKey, r.id
			o.win.quarantine(r)
			o.resolveLocked(r, ErrSetAside)
			return
		}
	}
}
