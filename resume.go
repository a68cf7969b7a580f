package mqtt

import (
	"time"
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

// fail0 fails the QoS 0 messages that wait, which by default need a link.
func (o *outbound) fail0(err error) {
	for r := o.q0.head; r != nil; r = o.q0.head {
		o.q0.remove(r)
		o.finish(r, err)
	}
	for r := o.waiters.head; r != nil; {
		next := r.next
		if r.qos == 0 {
			o.refuseWaiter(r, err)
		}
		r = next
	}
}

// refuseWaiter fails a publisher that waits for a place in the queue.
func (o *outbound) refuseWaiter(r *record, err error) {
	o.waiters.remove(r)
	close(r.ready)
	r.ready = nil
	o.accepted++ // what finish takes back
	o.bytes += r.cost
	o.finish(r, err)
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
		o.keepClock() // so that the next process knows how old they are
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
