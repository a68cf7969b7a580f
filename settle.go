package mqtt

import "github.com/millrace/mqtt/codec"

// This file pays what ledger.go notes: acknowledgements, each in its turn.

// payAcks pays every acknowledgement whose turn has come.
func (g *ledger) payAcks() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.payAcksLocked()
}

func (g *ledger) payAcksLocked() {
	g.payOrderLocked(&g.orders[0], codec.PUBACK)
	g.payOrderLocked(&g.orders[1], codec.PUBREC)
}

// payOrderLocked pays the first acknowledgements of one order, up to a message that the
// application still has.
func (g *ledger) payOrderLocked(q *entryQueue, t codec.Type) {
	n := 0
	g.scratch = g.scratch[:0]
	for ; n < q.len(); n++ {
		e := q.at(n)
		if e.dead {
			continue
		}
		if e.state == entryHeld {
			break
		}
		if g.mustWaitLocked(e) {
			g.persistDueLocked(q, n)
			break
		}
		g.scratch = codec.AppendAck(g.scratch, g.version, t, e.id, e.code, nil)
	}
	if n == 0 {
		return
	}
	if len(g.scratch) > 0 && !g.pay(g.link, g.scratch) {
		return // the link is gone; they are owed on the next
	}
	g.moved = g.moved || len(g.scratch) > 0
	for ; n > 0; n-- {
		e := q.pop()
		e.queued = false
		switch {
		case e.dead:
			g.uncountLocked(e)
			g.recycleLocked(e)
		case e.qos == 2 && !e.code.IsError():
			e.state = entryReceived
		default:
			g.uncountLocked(e)
			g.table.Clear(e.id)
			g.recycleLocked(e)
		}
	}
}

// pubrel answers a PUBREL: the exchange is over [MQTT-4.3.3-11].
func (g *ledger) pubrel(id uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.table.Get(id)
	if e == nil || e.qos != 2 {
		code := codec.Success
		if g.version == V5 {
			code = codec.PacketIdentifierNotFound
		}
		g.replyLocked(codec.PUBCOMP, id, code)
		return
	}
	if e.key != 0 {
		g.releaseLocked(e)
		return
	}
	if !g.replyLocked(codec.PUBCOMP, id, codec.Success) {
		return // the server asks again on the next link
	}
	g.moved = true
	g.dropLocked(e)
}

// awaitPubrels returns a channel that is closed when the PUBREL has come for each PUBREC
// that the server has had on this link: then nothing is left of those exchanges at the
// server. It is called when no PUBLISH is taken in any more.
func (g *ledger) awaitPubrels() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unreleased, g.allReleased = 0, make(chan struct{})
	g.table.Each(func(e *entry) {
		if e.awaited = e.state == entryReceived && e.counted; e.awaited {
			g.unreleased++
		}
	})
	if g.unreleased == 0 {
		close(g.allReleased)
	}
	return g.allReleased
}

// countReleaseLocked notes for awaitPubrels that the exchange of e ends.
func (g *ledger) countReleaseLocked(e *entry) {
	if g.unreleased == 0 || !e.awaited {
		return
	}
	e.awaited = false
	if g.unreleased--; g.unreleased == 0 {
		close(g.allReleased)
	}
}

func (g *ledger) replyLocked(t codec.Type, id uint16, code codec.ReasonCode) bool {
	g.scratch = codec.AppendAck(g.scratch[:0], g.version, t, id, code, nil)
	return g.pay(g.link, g.scratch)
}

// mustWaitLocked reports whether the PUBREC of e must wait until its packet identifier
// is durable, so that a later process knows the message when it comes again.
func (g *ledger) mustWaitLocked(e *entry) bool {
	return g.persist != nil && e.qos == 2 && !e.saved && !e.code.IsError()
}

// persistDueLocked writes the exchanges from the n-th on whose PUBREC waits for nothing
// else. The record of an exchange is made when its PUBREC is due, never at arrival: until
// then the server still sends the PUBLISH again. The next call goes on where this one
// stopped, so that a window of 65,535 that waits for the disk is looked through once.
func (g *ledger) persistDueLocked(q *entryQueue, n int) {
	for q.persisted = max(q.persisted, n); q.persisted < q.len(); q.persisted++ {
		e := q.at(q.persisted)
		if e.dead {
			continue
		}
		if e.state == entryHeld {
			return
		}
		if g.mustWaitLocked(e) && e.key == 0 {
			e.key = g.persist(0, inFact{id: e.id, gen: e.gen})
		}
	}
}

// releaseLocked deletes the record of e, whose PUBREL came. PUBCOMP follows when that is
// durable: else a later process would take a new message with this packet identifier for
// the old one.
func (g *ledger) releaseLocked(e *entry) {
	if !e.deleting {
		e.deleting = true
		g.persist(e.key, inFact{id: e.id, gen: e.gen, gone: true})
	}
}

// deleteRecordLocked deletes the record of e, if it has one; nothing waits for that.
func (g *ledger) deleteRecordLocked(e *entry) {
	if e.key != 0 {
		g.persist(e.key, inFact{gone: true})
		e.key = 0
	}
}

// committed takes in that the session store has carried out facts, or failed to.
// It returns the messages that are in the inbox now.
func (g *ledger) committed(facts []inFact, err error) (entered []*inboxItem) {
	g.mu.Lock()
	for _, f := range facts {
		e := g.table.Get(f.id)
		switch {
		case f.inbox:
			if it := g.enteredLocked(f, err); it != nil {
				entered = append(entered, it)
			}
		case e == nil || e.gen != f.gen:
		case f.gone:
			g.recordDeletedLocked(e)
		case err != nil:
			e.key = 0 // written when its PUBREC is due again
			g.orders[1].persisted = 0
		default:
			e.saved = true
		}
	}
	g.mu.Unlock()
	if err == nil {
		g.payAcks()
	}
	return entered
}

// recordDeletedLocked ends e, whose record is gone.
func (g *ledger) recordDeletedLocked(e *entry) {
	e.key = 0
	if g.replyLocked(codec.PUBCOMP, e.id, codec.Success) { // else the server asks again
		g.moved = true
	}
	g.dropLocked(e)
}
