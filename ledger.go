package mqtt

import (
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/packetid"
)

// ledger is the inbound side of the session: which packet identifiers the
// server has open with us, which acknowledgements are owed, and the order in
// which they must leave. It is called by the reader, the pumps and Ack, under
// one short lock of its own; no I/O happens under it.
//
// An entry passes through held (with the application), acked (the application is
// done, the acknowledgement waits for its turn) and, at QoS 2, received (PUBREC
// paid, PUBREL awaited). To pay an acknowledgement is to append its packet to the buffer
// of the link that is up; then the entry ends, or at QoS 2 becomes received. An entry
// outlives links; it takes its place in the order of a link when its PUBLISH
// arrives on that link.
type ledger struct {
	// pay appends to the buffer of a link, or says that the link is gone.
	pay func(link uint32, packets []byte) bool
	// persist writes an inbound QoS 2 exchange to the session store, or deletes it
	// there, and returns the key of its record; nil when there is no store.
	// committed is called when that is durable.
	persist func(key uint64, f inFact) uint64
	// inbox lists what the application has of the durable inbox; nil without one.
	// Its lock comes after mu.
	inbox *inboxBook

	mu          sync.Mutex
	table       packetid.Table[entry]
	orders      [2]entryQueue // of this link: PUBACK [MQTT-4.6.0-2] and PUBREC [MQTT-4.6.0-3]
	link        uint32        // number of the current link
	version     Version
	open        int           // entries of this link not through: what Receive Maximum counts
	maximum     int           // our Receive Maximum on this link; on 3.x all packet identifiers
	moved       bool          // an exchange of this link went on
	unreleased  int           // QoS 2 exchanges that awaitPubrels waits for
	allReleased chan struct{} // closed when none is left
	gen         generation    // of the newest entry
	rounds      uint64        // how often the generations began anew
	epoch       generation    // the first generation of the session
	began       time.Time     // of the first arrival
	free        *entry
	nfree       int
	scratch     []byte

	duplicates uint64 // redeliveries recognised
}

// arrival is what the ledger says about an inbound PUBLISH.
type arrival uint8

const (
	arrivedNew   arrival = iota // deliver it
	arrivedAgain                // known; nothing to deliver
	arrivedOver                 // more than our Receive Maximum [MQTT-3.3.4-9]
)

// up begins a link. When the server has no session, everything owed is void. maximum is
// our Receive Maximum, 0 for none.
func (g *ledger) up(link uint32, v Version, sessionPresent bool, maximum int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if maximum == 0 {
		maximum = maxPacketID
	}
	g.link, g.version, g.maximum, g.open, g.moved, g.unreleased = link, v, maximum, 0, false, 0
	for i := range g.orders {
		g.orders[i].drain(func(e *entry) {
			e.queued = false
			if e.dead {
				g.recycleLocked(e)
			}
		})
	}
	if !sessionPresent {
		g.table.Each(func(e *entry) {
			g.table.Clear(e.id)
			g.deleteRecordLocked(e)
			g.recycleLocked(e)
		})
		g.epoch = g.gen.next()
	}
	// An entry that is left counts again when its PUBLISH comes again: a PUBREL that the
	// server sends again takes nothing of its quota (section 4.9).
	g.table.Each(func(e *entry) { e.counted = false })
}

// arrive records an inbound QoS 1 or 2 PUBLISH and says whether it is new. For
// a new one it returns the generation that its acknowledgement must name; subs
// are those that must finish with it, none when it is acknowledged at once.
func (g *ledger) arrive(m *Message, hash uint64, now time.Time, subs []*owner) (arrival, generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.recordLocked(m, hash, g.sinceBeganLocked(now), subs)
}

// refuse is arrive for a message that is acknowledged at once, with an error.
func (g *ledger) refuse(m *Message, hash uint64, now time.Time, code codec.ReasonCode) arrival {
	g.mu.Lock()
	defer g.mu.Unlock()
	e, a := g.beginLocked(m, hash, g.sinceBeganLocked(now))
	if e != nil {
		e.state, e.code = entryAcked, code
	}
	return a
}

// arriveAll is arrive for a run of messages, of which those of QoS 0 pass. It
// keeps the new ones, with their generations, up to the first that goes beyond
// our Receive Maximum, and says how many were redeliveries.
func (g *ledger) arriveAll(msgs []Message, hashes []uint64, now time.Time, subs []*owner) (kept []Message, again int, over bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	since := g.sinceBeganLocked(now)
	kept = msgs[:0]
	for i := range msgs {
		m := &msgs[i]
		if m.QoS > 0 {
			a, gen := g.recordLocked(m, hashes[i], since, subs)
			switch a {
			case arrivedAgain:
				again++
				continue
			case arrivedOver:
				return kept, again, true
			}
			m.setGeneration(gen)
		}
		if again > 0 {
			msgs[len(kept)] = *m
		}
		kept = msgs[:len(kept)+1]
	}
	return kept, again, false
}

// sinceBeganLocked returns how long after the first arrival now is.
func (g *ledger) sinceBeganLocked(now time.Time) time.Duration {
	if g.began.IsZero() {
		g.began = now
	}
	return now.Sub(g.began)
}

func (g *ledger) recordLocked(m *Message, hash uint64, since time.Duration, subs []*owner) (arrival, generation) {
	e, a := g.beginLocked(m, hash, since)
	if e == nil {
		return a, 0
	}
	if e.unfinished.set(subs); e.unfinished.none() {
		e.state = entryAcked
	}
	return arrivedNew, e.gen
}

// beginLocked makes the entry of a new message, held; it returns none when the message is
// known.
func (g *ledger) beginLocked(m *Message, hash uint64, since time.Duration) (*entry, arrival) {
	var stale generation
	if e := g.table.Get(m.id); e != nil {
		if g.isSameLocked(e, m.QoS, m.Dup(), hash) {
			if !e.counted && g.exceededLocked() {
				return nil, arrivedOver
			}
			g.arriveAgainLocked(e)
			return nil, arrivedAgain
		}
		if e.state == entryHeld {
			stale = e.gen
		}
		g.replaceLocked(e)
	}
	if g.exceededLocked() {
		return nil, arrivedOver
	}
	e := g.newEntryLocked()
	e.id, e.qos, e.hash, e.gen, e.stale, e.topic, e.since = m.id, m.QoS, hash, g.nextGenLocked(), stale, m.Topic, since
	g.table.Set(m.id, e)
	g.enqueueLocked(e)
	return e, arrivedNew
}

// nextGenLocked returns a new generation, which no message of the inbox has.
func (g *ledger) nextGenLocked() generation {
	for {
		if g.gen = g.gen.next(); g.gen == 0 {
			g.rounds++
			continue // 0 is no message
		}
		if g.inbox == nil || g.inbox.item(g.gen) == nil {
			return g.gen
		}
	}
}

// exceededLocked reports whether one message more is beyond our Receive Maximum. Messages
// count for which we "have not sent a PUBACK or PUBCOMP" (section 3.3.4), so those that
// are due are sent first.
func (g *ledger) exceededLocked() bool {
	if g.fullLocked() {
		g.payAcksLocked()
	}
	return g.fullLocked()
}

// fullLocked reports whether the server has used up our Receive Maximum.
func (g *ledger) fullLocked() bool { return g.open >= g.maximum }

// progress reports whether the exchange of any message of the current link went
// on: its PUBACK, PUBREC or PUBCOMP was sent.
func (g *ledger) progress() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.moved
}

// isSameLocked reports whether a PUBLISH is the message of e sent again.
func (g *ledger) isSameLocked(e *entry, qos QoS, dup bool, hash uint64) bool {
	if e.qos != qos {
		return false
	}
	if e.state == entryReceived {
		return dup || g.version != V31 // by id alone [MQTT-4.3.3-10]; 3.1 has no session present
	}
	// Without DUP a message of the same content may be another one after a
	// failover, but not on the link that brought the first [MQTT-4.3.3-10].
	return e.hash == hash && (dup || qos == 2 && e.queued)
}

// arriveAgainLocked puts a recognised redelivery in its place in this link's order: also
// that of a message whose PUBREC was paid before, for it is paid again in the order of
// arrival [MQTT-4.6.0-3].
func (g *ledger) arriveAgainLocked(e *entry) {
	g.duplicates++
	if !e.queued {
		g.enqueueLocked(e)
	}
}

// enqueueLocked gives e the next place in the order of the current link.
func (g *ledger) enqueueLocked(e *entry) {
	g.countLocked(e)
	e.queued = true
	g.orders[e.qos-1].push(e)
}

func (g *ledger) countLocked(e *entry) {
	if !e.counted {
		e.counted = true
		g.open++
	}
}

func (g *ledger) uncountLocked(e *entry) {
	if e.counted {
		e.counted = false
		g.open--
	}
}

// dropLocked forgets e: its acknowledgement is stale.
func (g *ledger) dropLocked(e *entry) {
	g.countReleaseLocked(e)
	g.table.Clear(e.id)
	g.deleteRecordLocked(e)
	g.uncountLocked(e)
	if e.queued {
		e.dead = true // its place in the order is skipped
		return
	}
	g.recycleLocked(e)
}

// replaceLocked forgets e, whose identifier a new message has. While it has its place in
// the order it counts on: a server that uses one identifier again and again behind a
// message that is held has sent as many messages.
func (g *ledger) replaceLocked(e *entry) {
	counts := e.counted && e.queued
	g.dropLocked(e)
	if counts {
		g.countLocked(e)
	}
}

func (g *ledger) lookupLocked(gen generation, id uint16) *entry {
	if e := g.table.Get(id); e != nil && e.gen == gen {
		return e
	}
	return nil
}

// done notes that sub has finished with a message. The acknowledgement leaves
// at the next settle.
func (g *ledger) done(gen generation, id uint16, sub *owner) error {
	if g.inbox != nil {
		return g.inbox.finish(gen, sub)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.finishLocked(gen, id, sub)
}

// doneAll is done for those of msgs that are of QoS 1 or 2, each for its own
// subscription. It reports whether an acknowledgement may be due.
func (g *ledger) doneAll(msgs []Message) (due bool) {
	if g.inbox != nil {
		return g.inbox.finishAll(msgs)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range msgs {
		if m := &msgs[i]; m.QoS > 0 && g.finishLocked(m.generation(), m.id, m.to) == nil {
			due = true
		}
	}
	return due
}

func (g *ledger) finishLocked(gen generation, id uint16, sub *owner) error {
	e := g.lookupLocked(gen, id)
	if e == nil {
		return g.whyPassedLocked(gen, id)
	}
	if e.state != entryHeld {
		return ErrAcked
	}
	if !e.unfinished.remove(sub) {
		return ErrAcked
	}
	if e.unfinished.none() {
		e.state = entryAcked
	}
	return nil
}

// whyPassedLocked says why the message gen of id cannot be acknowledged any more.
func (g *ledger) whyPassedLocked(gen generation, id uint16) error {
	if gen.before(g.epoch) {
		return ErrStale // of an earlier session
	}
	if e := g.table.Get(id); e != nil && e.stale == gen {
		return ErrStale // the server has given its identifier to another message
	}
	return ErrAcked
}

// unpaid reports whether the acknowledgement of a message that the application is
// done with waits for its turn, or for a link.
func (g *ledger) unpaid(gen generation, id uint16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.lookupLocked(gen, id)
	return e != nil && e.state == entryAcked
}

// transfer makes to the one that has to finish with a message, instead of sub.
func (g *ledger) transfer(gen generation, id uint16, sub, to *owner) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.lookupLocked(gen, id); e != nil {
		e.unfinished.replace(sub, to)
	}
}

// abandon finishes, on behalf of sub, with every message that sub still has,
// and returns how many there were.
func (g *ledger) abandon(sub *owner) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	g.table.Each(func(e *entry) {
		if e.state == entryHeld && e.unfinished.remove(sub) {
			n++
			if e.unfinished.none() {
				e.state = entryAcked
			}
		}
	})
	return n
}

// hasUnfinished reports whether sub has messages that it did not finish with.
func (g *ledger) hasUnfinished(sub *owner) bool {
	if g.inbox != nil {
		return sub.usage.all.Load() > 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	found := false
	g.table.Each(func(e *entry) { found = found || e.unfinished.has(sub) })
	return found
}

// restore takes in the exchanges that an earlier process left open.
func (g *ledger) restore(open []restoredIncoming) {
	for _, x := range open {
		if g.table.Get(x.id) != nil {
			continue
		}
		g.nextGenLocked()
		e := g.newEntryLocked()
		e.id, e.qos, e.gen, e.state, e.key, e.saved = x.id, 2, g.gen, entryReceived, x.key, true
		g.table.Set(x.id, e)
	}
	g.epoch = g.gen.next()
}

// overdue describes the message that holds up the acknowledgements behind it.
type overdue struct {
	topic string
	since time.Time
	gen   generation
	id    uint16
	sub   *owner
}

// oldest returns the oldest message of this link that the application has not
// acknowledged, and how many acknowledgements are owed. A message that waits for a later
// Subscribe is not with the application.
func (g *ledger) oldest() (o overdue, owed int, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.orders {
		q := &g.orders[i]
		for n := range q.len() {
			e := q.at(n)
			sub := e.unfinished.application()
			if e.dead || e.state != entryHeld || sub == nil {
				continue
			}
			if since := g.began.Add(e.since); !ok || since.Before(o.since) {
				o, ok = overdue{e.topic, since, e.gen, e.id, sub}, true
			}
			break
		}
	}
	return o, g.open, ok
}
