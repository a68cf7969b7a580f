package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// A link that probes (see supervisor.learn) carries nothing of the application for
// probeTime, then one SUBSCRIBE or UNSUBSCRIBE of one filter at a time, each after the
// answer to the one before, then one publish at a time. So the packet that is
// unanswered when the link dies is the only one that the server can have cut for.
// Acknowledgements and PUBRELs go at once: they are owed, and never given up.

const (
	// probeTime is how young a link dies for its packets to be probed on the next ones,
	// how long a link that probes is watched before the first packet is sent, and within
	// what time a link must die of a packet to have died of it.
	probeTime = time.Second
	// youngBeforeProbe is how many links in a row die young before the next one probes.
	youngBeforeProbe = 2
	// deathLimit is how many probing links in a row a packet may kill before it is
	// set aside, and how many times a message may make us close the link.
	deathLimit = 3
)

// probeWait is how long a probing link waits for the answer to one packet before the
// next SUBSCRIBE or UNSUBSCRIBE goes without it. Two packets are unanswered then, so
// that the death of the link accuses neither.
const probeWait = 5 * time.Second

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

// probeVerdict is what the death of a link says about the packets that were unanswered.
type probeVerdict struct {
	probedPacket
	accused    bool // the probed packet killed the link, it seems
	cleared    bool // no packet did
	aside      bool // the probed packet has killed deathLimit links
	topic, key string
	id         uint16
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
