package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// LostPolicy says what becomes of a message that was under way when the server
// lost the session.
type LostPolicy uint8

const (
	// LostDefault publishes QoS 1 anew and fails QoS 2.
	LostDefault LostPolicy = iota
	// LostPublish publishes the message anew, as a new message: it may double. A
	// QoS 2 message that the server owned, since its PUBREC came, fails all the same.
	LostPublish
	// LostFail fails the Future with [ErrSessionLost]: the message may be lost.
	LostFail
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
	r := o.blank()
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

// agreed is what client and server may send each other on one link.
type agreed struct {
	version        Version
	receiveMaximum int
	maximumPacket  int
	maximumQoS     QoS
	noRetain       bool
	noWildcard     bool
	noShared       bool
	noSubID        bool
	keepAlive      time.Duration
	sessionExpiry  time.Duration
	sessionPresent bool
	assignedID     string

	ourReceiveMaximum int // what our CONNECT announced, on 5.0
}

// carries returns why the link cannot carry g, or nil.
func (a *agreed) carries(g *outgoing) error {
	return a.check(g.qos, g.retain, g.props, g.size)
}

// carriesRecord is carries for a message that was accepted before.
func (a *agreed) carriesRecord(r *record) error {
	return a.check(r.qos, r.retain, r.props, r.size)
}

func (a *agreed) check(qos QoS, retain bool, props *codec.Properties, size int) error {
	if a.version != V5 {
		if props != nil && !onlyExpiry(props) {
			return &VersionError{Feature: "a message with properties", Version: a.version}
		}
		return nil
	}
	if qos > a.maximumQoS {
		return &VersionError{Feature: "publishing at this QoS", Version: a.version}
	}
	if retain && a.noRetain {
		return &VersionError{Feature: "retaining messages", Version: a.version}
	}
	if n := publishSize(size, qos, codec.PropertiesSize(props)); n > a.maximumPacket {
		return &PacketTooLargeError{Size: n, Max: a.maximumPacket}
	}
	return nil
}

// publishSize is the size of a whole MQTT 5 PUBLISH; content is what topic,
// payload and properties take together, props the properties alone.
func publishSize(content int, qos QoS, props int) int {
	n := 2 + content + varintSize(props)
	if qos > 0 {
		n += 2
	}
	return 1 + varintSize(n) + n
}

// varintSize is the size of a variable byte integer (section 1.5.5).
func varintSize(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}
