package mqtt

import (
	"errors"
	"fmt"
)

// check checks what holds after every step.
func (m *outModel) check() {
	w := &m.o.win
	if w.quota < 0 || w.quota > w.limit {
		m.failf("quota %d of %d", w.quota, w.limit)
	}
	over := m.o.accepted > m.o.cfg.messages || m.o.bytes > m.o.cfg.bytes
	if m.disk != nil && m.disk.crashes > 0 {
		over = false // what was not yet deleted came back
	}
	if m.o.accepted < 0 || m.o.bytes < 0 || over {
		m.failf("accepted %d, %d bytes, limits %d and %d", m.o.accepted, m.o.bytes, m.o.cfg.messages, m.o.cfg.bytes)
	}
	if n := w.order.n + w.released.n + w.quarantined.n; w.ids.Len() < n {
		m.failf("%d identifiers for %d exchanges", w.ids.Len(), n)
	}
	if m.disk != nil {
		m.disk.checkCounts(m)
	}
	live := m.live[:0]
	for _, p := range m.live {
		if p.fut.Err() == ErrPending {
			live = append(live, p)
		} else {
			m.resolvedNow(p)
		}
	}
	m.live = live
	for _, p := range m.reading {
		if p.resolved {
			m.failf("%v resolved while the writer reads its payload", p)
		}
	}
	m.checkFlushes()
}

func (m *outModel) checkFlushes() {
	kept := m.flushes[:0]
	for _, f := range m.flushes {
		select {
		case <-f.done:
			for _, p := range f.pubs {
				if !p.resolved {
					m.failf("Flush is through, %v is not", p)
				}
			}
		default:
			kept = append(kept, f)
		}
	}
	m.flushes = kept
}

// resolvedNow checks the outcome of p.
func (m *outModel) resolvedNow(p *modelPub) {
	p.resolved = true
	err := p.fut.Err()
	m.logf("resolved %v: %v", p, err)
	if err == nil {
		if p.delivered == 0 || p.qos > 0 && !p.acked {
			m.failf("%v is nil, delivered %d, acked %v", p, p.delivered, p.acked)
		}
		return
	}
	e, ok := errors.AsType[*PublishError](err)
	if !ok {
		m.failf("%v failed with %T", p, err)
	}
	if !e.MayHaveArrived && p.delivered > 0 {
		m.failf("%v: %v, but the broker has it", p, err)
	}
	if e.MayHaveArrived && m.no == 0 {
		m.failf("%v: %v, but there was no link", p, err)
	}
	if m.disk != nil && !e.Kept && m.disk.has(fmt.Sprintf("t%d", p.n)) {
		m.failf("%v: %v, but the store has it", p, err)
	}
	if p.acked && !errors.Is(err, ErrWrongAck) {
		m.failf("%v was acknowledged and failed: %v", p, err)
	}
	if _, nack := errors.AsType[*ReasonError](err); nack && !p.nacked {
		m.failf("%v was not refused: %v", p, err)
	}
	if errors.Is(err, ErrCanceled) && !p.canceled || errors.Is(err, ErrWrongAck) != p.wrong {
		m.failf("%v, answered wrongly %v: %v", p, p.wrong, err)
	}
}

// quiesce lets every party that is awake work until all sleep, and checks that
// nothing that could move is left.
func (m *outModel) quiesce() {
	m.logf("quiesce")
	for range 1000 {
		busy := m.disk != nil && m.disk.work(m)
		m.turn()
		m.wrote()
		m.write()
		if m.l != nil && m.l.killed() {
			m.cut()
		}
		// By the turn, or by what the writer let go of: a committer that runs looks once more.
		busy = busy || m.disk != nil && (!m.o.journal.next.empty() || len(m.o.journal.ends) > 0)
		if !busy && m.writing == nil && (m.asleep || m.l == nil) && len(m.o.wake) == 0 && (m.l == nil || len(m.l.work) == 0) {
			break
		}
	}
	m.check()
	o := m.o
	if h := o.waiters.head; h != nil && o.fitsLocked(h.cost) {
		m.failf("a publisher waits though there is room")
	}
	if len(o.resolved) > 0 || len(o.inbox) > 0 {
		m.failf("%d to resolve, %d acknowledgements left", len(o.resolved), len(o.inbox))
	}
	if m.disk != nil && len(o.journal.ends)+len(o.journal.tombstones) > 0 {
		m.failf("%d ends and %d gaps wait for the store, which has nothing to do", len(o.journal.ends), len(o.journal.tombstones))
	}
	if m.l == nil {
		return
	}
	// On a link that probes one packet awaits its answer at a time, SUBSCRIBEs first.
	unanswered := m.l.probe && o.win.controls+o.win.limit-o.win.quota > 0
	if m.l.probe && (o.win.controls > 1 || o.win.controls+o.win.limit-o.win.quota > 1) {
		m.failf("%d SUBSCRIBEs and %d publishes unanswered on a link that probes", o.win.controls, o.win.limit-o.win.quota)
	}
	if o.win.hold && !unanswered {
		m.failf("publishes are held for nothing")
	}
	switch {
	case m.writing != nil || !m.l.empty():
		m.failf("bytes left")
	case o.q0.n > 0 && !o.win.hold:
		m.failf("QoS 0 left")
	case o.win.nextPubrel != nil || o.win.nextPublish != nil && o.win.quota > 0 && !o.win.hold:
		m.failf("resends left")
	case o.q12.n > 0 && o.withID.n == 0 && o.win.canAdmit(), o.dueLocked() != nil && o.win.canSend() && o.withID.n > 0:
		m.failf("QoS 1 or 2 left")
	case len(o.ctlWait) > 0 && o.win.freeID() && !unanswered:
		m.failf("control left")
	}
}

// finale ends the run well, or at once, and checks that nothing is left.
func (m *outModel) finale() {
	if m.rng.IntN(3) > 0 {
		m.endWell()
	}
	if m.l != nil {
		m.cut()
	}
	m.logf("shutdown")
	m.o.shutdown(ErrClosed)
	for range 10 {
		m.turn()
	}
	m.check()
	m.checkEmpty()
	if m.o.win.ids.Len() != 0 {
		m.failf("%d identifiers taken after the end", m.o.win.ids.Len())
	}
	if m.controls != m.answered+m.ctlDropped {
		m.failf("%d controls, %d answered, %d dropped", m.controls, m.answered, m.ctlDropped)
	}
}

func (m *outModel) endWell() {
	m.calm = true
	for range 200 {
		if m.l == nil {
			m.up(true)
		}
		m.deliver(1000)
		m.quiesce()
		if m.l != nil && m.o.accepted == 0 && len(m.pending) == 0 && m.o.win.ids.Len() == m.o.win.quarantined.n && m.o.waiters.n+len(m.o.ctlWait) == 0 {
			break
		}
		// Identifiers all set aside, a window full of them: only a new session helps.
		if m.l != nil && m.o.win.quarantined.n == int(m.o.win.maxID) {
			m.cut()
			m.up(false)
		}
	}
	if m.o.win.ids.Len() != m.o.win.quarantined.n {
		m.failf("%d identifiers taken, %d set aside", m.o.win.ids.Len(), m.o.win.quarantined.n)
	}
	m.checkEmpty()
	if m.disk != nil {
		m.disk.check(m)
	}
}

func (m *outModel) checkEmpty() {
	o := m.o
	if o.accepted != 0 || o.bytes != 0 || o.q0.n+o.withID.n+o.q12.n+o.waiters.n+o.ending.n+o.win.inflight() != 0 || len(o.ctlWait) != 0 {
		m.failf("left: accepted %d, %d bytes, queues %d %d, waiting %d, ending %d, inflight %d, controls %d",
			o.accepted, o.bytes, o.q0.n, o.q12.n, o.waiters.n, o.ending.n, o.win.inflight(), len(o.ctlWait))
	}
	if len(m.live) > 0 {
		m.failf("%d Futures unresolved: %v", len(m.live), m.live)
	}
	if len(m.flushes) > 0 {
		m.failf("%d Flushes not through", len(m.flushes))
	}
	if o.stats.dropped != m.dropped {
		m.failf("%d dropped, %d told", o.stats.dropped, m.dropped)
	}
	n := 0
	for r := o.arena.free; r != nil && n <= o.arena.nfree; r = r.next {
		n++
	}
	if n != o.arena.nfree {
		m.failf("free list of %d records, %d counted", n, o.arena.nfree)
	}
}
