package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file takes in what came back, acknowledgements and written buffers, and resolves
// what they end.

// resolver is what the window's goroutine has in hand.
type resolver struct {
	batch   []resolution
	answers []controlAnswer
	inbox   []ackFact

	expiring bool // something that expires waits
}

// acks hands the acknowledgements of one read to the window's goroutine.
func (o *outbound) acks(l *sender, facts []ackFact) {
	o.mu.Lock()
	if o.inboxNo != l.no {
		o.inbox, o.inboxNo = o.inbox[:0], l.no
	}
	o.inbox = append(o.inbox, facts...)
	o.unlock()
	o.wakeResolver()
}

// resolve is the window's goroutine: it takes in acknowledgements, admits what
// waits, ends what has expired, and is the only one that resolves QoS 1 and 2
// Futures. It is started by the Conn, ends when everything is resolved after close, and closes ended.
func (o *outbound) resolve() {
	defer close(o.ended)
	var w resolver
	look := time.NewTimer(time.Hour)
	defer look.Stop()
	look.Stop()
	for looking := false; ; {
		select {
		case <-o.wake:
		case <-look.C:
			looking = false
			o.expireDue()
		}
		for more := true; more; {
			var final bool
			if more, final = w.turn(o); final && !more {
				return
			}
		}
		if w.expiring && !looking {
			looking = true
			look.Reset(o.nextExpiry())
		}
	}
}

// turn takes what there is and carries it out. It reports whether there was
// anything to resolve, and whether nothing can come any more.
func (w *resolver) turn(o *outbound) (more, final bool) {
	o.mu.Lock()
	w.inbox, o.inbox = o.inbox, w.inbox[:0]
	l, no := o.link, o.inboxNo
	w.answers = o.takeAcksLocked(w.inbox, w.answers[:0])
	o.pumpLocked()
	w.batch, o.resolved = o.resolved, w.batch[:0]
	o.inHand = len(w.batch) > 0
	final = o.final && len(o.inbox) == 0
	o.mu.Unlock()

	for i := range w.batch {
		w.batch[i].resolve()
	}
	for i := range w.answers {
		a := &w.answers[i]
		if err := a.take(no); err != nil && l != nil && !l.disconnecting() {
			l.kill(err)
		}
	}
	more = len(w.batch) > 0 || len(w.answers) > 0
	clear(w.inbox)
	clear(w.batch)
	clear(w.answers)
	o.mu.Lock()
	o.inHand = false
	w.expiring = len(o.expiring) > 0
	o.checkFlushLocked()
	o.mu.Unlock()
	return more, final
}

// takeAcksLocked carries out what the window decides about the acknowledgements of the
// current link, and returns the answers to control packets.
func (o *outbound) takeAcksLocked(facts []ackFact, answers []controlAnswer) []controlAnswer {
	l := o.link
	if l == nil || l.no != o.inboxNo {
		return answers // of a link that has ended: its acknowledgements are void with it
	}
	for i := range facts {
		f := &facts[i]
		if r := o.win.ids.Get(f.id); f.ofControl() || r != nil && r.state == recControl {
			answers = o.takeAnswerLocked(l, f, answers)
		} else {
			o.takeAckLocked(l, f)
		}
	}
	return answers
}

func (o *outbound) takeAnswerLocked(l *sender, f *ackFact, answers []controlAnswer) []controlAnswer {
	r := o.win.ids.Get(f.id)
	switch {
	case r != nil && r.state == recControl && r.misanswered:
		o.stats.ignoredAcks++ // it ends with the link
	case r != nil && r.state == recControl && f.typ == r.ctl.answer():
		o.win.answered(f.id)
		if l.newestCtl == r.ctl {
			l.newestCtl = nil
		}
		answers = append(answers, controlAnswer{ctl: r.ctl, fact: *f})
		o.recycleLocked(r)
	case r != nil && r.state == recControl:
		o.stats.ignoredAcks++
		o.win.wrongKind(r)
		answers = append(answers, controlAnswer{ctl: r.ctl, fact: *f, wrong: true})
	case o.win.strange(r):
		o.stats.ignoredAcks++
	default:
		o.carryOutLocked(l, f, r, o.win.wrongKind(r))
	}
	return answers
}

func (o *outbound) takeAckLocked(l *sender, f *ackFact) {
	r, v := o.win.ack(l.version, f.typ, f.id, f.code)
	o.carryOutLocked(l, f, r, v)
}

// carryOutLocked does what the window decided about f.
func (o *outbound) carryOutLocked(l *sender, f *ackFact, r *record, v verdict) {
	switch v {
	case ackIgnored:
		o.stats.ignoredAcks++
	case ackUnknown:
		o.stats.ignoredAcks++
		code := codec.Success
		if l.version == V5 {
			code = codec.PacketIdentifierNotFound
		}
		var packet [8]byte
		o.oweLocked(l, codec.AppendAck(packet[:0], l.version, codec.PUBREL, f.id, code, nil))
	case ackReleased:
		r.fut.setAnswer(f.code, f.answer)
		r.fut.advance(StageReceived, r.id)
		r.payload, r.props = nil, nil // the server owns the message now
		if o.journal == nil {
			o.pubrelLocked(r)
		} else {
			o.recordExchangeLocked(r, exchangeReleased) // committedLocked sends it
		}
	case ackRepeat:
		if !r.unsaved() {
			o.pubrelLocked(r)
		}
	case ackDone:
		o.applyAckLocked(l, f, r)
	case ackMismatch:
		o.endLocked(r, errTakenAtQoS1)
	case ackViolation:
		o.stats.ignoredAcks++
		if !l.closing { // behind our DISCONNECT it is the server that closes
			l.kill(wrongAck(f.typ))
		}
	}
}

// applyAckLocked resolves r by the acknowledgement that ended its exchange.
func (o *outbound) applyAckLocked(l *sender, f *ackFact, r *record) {
	switch {
	case f.typ == codec.PUBCOMP && f.code == codec.PacketIdentifierNotFound && r.resent:
		// The server had finished before the link was cut.
		o.endLocked(r, nil)
	case f.code.IsError():
		e := &ReasonError{Packet: f.typ, Version: l.version, Code: f.code}
		if f.answer != nil {
			e.Reason, e.User, e.UserCut = f.answer.reason, f.answer.user, f.answer.cut
		}
		if f.typ != codec.PUBCOMP { // else the code that counts was PUBREC's
			r.fut.setAnswer(f.code, f.answer)
		}
		o.endLocked(r, e)
	case f.typ == codec.PUBCOMP:
		o.endLocked(r, nil)
	case r.inWrite:
		r.fut.setAnswer(f.code, f.answer)
		o.endLocked(r, nil)
	default:
		o.resolveLocked(r, nil)
		done := &o.resolved[len(o.resolved)-1]
		done.code, done.answer, done.answered = f.code, f.answer, true
		o.recycleLocked(r)
	}
}

// endLocked resolves r, which has left the window, or lets the writer do so when it
// still reads the payload.
func (o *outbound) endLocked(r *record, err error) {
	if r.inWrite {
		if o.journal != nil {
			o.deleteMessageLocked(r) // before its packet identifier, which is free, goes to another
		}
		r.ended, r.endErr = true, err
		o.ending.pushBack(r)
		return
	}
	o.finishLocked(r, err)
}

// takeLastAcksLocked is takeAcksLocked for what l received last before it ended: an acknowledgement
// counts however soon the link ended behind it. Control exchanges start anew.
func (o *outbound) takeLastAcksLocked(l *sender) {
	if o.inboxNo == l.no {
		for i := range o.inbox {
			f := &o.inbox[i]
			if !f.ofControl() {
				o.takeAckLocked(l, f)
			} else if r := o.win.ids.Get(f.id); r != nil && r.state == recControl {
				r.ctl.answeredLast = true
			}
		}
	}
	clear(o.inbox)
	o.inbox = o.inbox[:0]
}

// pay appends acknowledgements that we owe the server to the buffer of link
// number no, or reports that this link is gone.
func (o *outbound) pay(no uint32, packets []byte) bool {
	o.mu.Lock()
	defer o.unlock()
	l := o.link
	return l != nil && l.no == no && o.oweLocked(l, packets)
}

// oweLocked appends acknowledgements to the buffer of l, or reports that l takes no
// more. It ends l when the peer causes too many and reads none.
func (o *outbound) oweLocked(l *sender, packets []byte) bool {
	if o.link != l || l.closing {
		return false
	}
	if limit := l.agreed.maximumPacket; limit < maxAck {
		fit, err := fitAcks(packets, limit)
		if err != nil {
			l.kill(err)
			return false
		}
		packets = fit
	}
	b := l.out
	b.buf = append(b.buf, packets...)
	l.wakeIdleLocked()
	if b.owed += len(packets); b.owed > floodLimit {
		l.kill(&ProtocolError{Code: codec.QuotaExceeded, Detail: "a flood of packets to acknowledge while the peer does not read"})
	}
	return true
}

// floodLimit bounds what a peer that does not read can make us owe it, in bytes. A peer
// that keeps to the protocol stays below it: each of 65,535 packet identifiers, either way,
// has one acknowledgement of 4 bytes at a time.
const floodLimit = 1 << 20

// swap gives the writer of l the buffer to write next, taking spare in its
// place, or nil when there is nothing to write; the writer is then idle.
func (o *outbound) swap(l *sender, spare *sendBuffer) *sendBuffer {
	o.mu.Lock()
	defer o.unlock()
	o.now = time.Now()
	l.swaps++
	if l.empty() {
		l.idle = true
		return nil
	}
	b := l.next(spare)
	l.writing0, l.inWrite = b.first0, b
	return b
}

// wrote tells that the writer of l has written b (err nil) or failed to. It
// resolves the QoS 0 Futures of b; first, so that Flush waits for them.
func (o *outbound) wrote(l *sender, b *sendBuffer, err error) {
	var fail error
	if err != nil && b.n0 > 0 {
		fail = &PublishError{MayHaveArrived: true, Err: linkLost(err)}
	}
	b.resolve(fail)
	o.mu.Lock()
	defer o.unlock()
	l.writing0, l.inWrite = 0, nil
	o.releaseLocked(b)
	if o.link == l && (o.q0.n > 0 || o.q12.n > 0 || o.withID.n > 0 || o.win.resending()) {
		o.pumpLocked()
	} else {
		o.admitWaitersLocked()
	}
	o.checkFlushLocked()
}

// releaseLocked frees what b takes in the queue, and takes back the payloads it holds.
func (o *outbound) releaseLocked(b *sendBuffer) {
	o.accepted -= b.n0
	o.bytes -= b.size0
	o.takeBackPayloadsLocked(b.inWrite)
}

// takeBackPayloadsLocked takes back the payloads that the writer was done with.
func (o *outbound) takeBackPayloadsLocked(held []*record) {
	for _, r := range held {
		r.inWrite = false
		switch {
		case r.ended:
			o.ending.remove(r)
			o.finishLocked(r, r.endErr)
		case r.fut == nil && r.state != recQuarantined:
			o.recycleLocked(r)
		}
	}
}

// flush returns a channel that is closed once everything accepted so far is resolved.
func (o *outbound) flush() <-chan struct{} {
	o.mu.Lock()
	done := make(chan struct{})
	defer o.unlock()
	o.flushers = append(o.flushers, flusher{o.seq, done})
	o.checkFlushLocked()
	return done
}

// checkFlushLocked closes the channels of the flushers that have waited long enough.
func (o *outbound) checkFlushLocked() {
	if len(o.flushers) == 0 || len(o.resolved) > 0 || o.inHand || o.journal != nil && len(o.journal.ends) > 0 {
		return
	}
	oldest := o.oldestLocked()
	keep := o.flushers[:0]
	for _, f := range o.flushers {
		if oldest != 0 && oldest <= f.seq {
			keep = append(keep, f)
		} else {
			close(f.done)
		}
	}
	clear(o.flushers[len(keep):])
	o.flushers = keep
}

// oldestLocked returns the acceptance number of the oldest unresolved message, 0 for none.
func (o *outbound) oldestLocked() uint64 {
	var oldest uint64
	lower := func(seq uint64) {
		if seq != 0 && (oldest == 0 || seq < oldest) {
			oldest = seq
		}
	}
	for _, l := range []*recordList{&o.q0, &o.withID, &o.q12} {
		if l.head != nil {
			lower(l.head.seq)
		}
	}
	if r := o.win.order.head; r != nil {
		lower(r.seq)
	}
	for _, l := range []*recordList{&o.win.released, &o.ending} {
		for r := l.head; r != nil; r = r.next {
			lower(r.seq)
		}
	}
	if o.link != nil {
		lower(o.link.out.first0)
		if len(o.link.more) > 0 {
			lower(o.link.more[0].first0)
		}
		lower(o.link.writing0)
	}
	return oldest
}

func (o *outbound) addStats(s *Stats) {
	o.mu.Lock()
	defer o.unlock()
	s.Published, s.Resent = o.stats.published, o.stats.resent
	s.DroppedOut, s.IgnoredAcks = o.stats.dropped, o.stats.ignoredAcks
	s.Queued, s.QueuedBytes, s.Inflight = o.accepted, o.bytes, o.win.inflight()
	for _, l := range []*recordList{&o.win.order, &o.win.released} {
		for r := l.head; r != nil; r = r.next {
			s.OldestUnacked = max(s.OldestUnacked, time.Since(r.since))
		}
	}
}

// oldestSent returns since when the oldest publish sent on this link waits.
func (o *outbound) oldestSent() (time.Time, bool) {
	o.mu.Lock()
	defer o.unlock()
	o.now = time.Now()
	var since time.Time
	for _, r := range []*record{o.win.order.head, o.win.released.head} {
		if r != nil && r.sentOnLink == o.win.link && (since.IsZero() || r.sentAt.Before(since)) {
			since = r.sentAt
		}
	}
	return since, !since.IsZero()
}
