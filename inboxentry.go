package mqtt

import "time"

// This file enters what arrives into the durable inbox: the exchange with the server is the
// ledger's, the message is the book's.

// openInbox begins the book with what earlier processes left, in order. It is called before
// the first link.
func (g *ledger) openInbox(b *inboxBook, earlier []*inboxItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inbox = b
	for _, it := range earlier {
		b.addEarlier(g.nextGenLocked(), it)
	}
}

// storeArrival enters a new QoS 1 or 2 message into the inbox: msgs has a copy for each
// subscription, or one without an owner. It is acknowledged, and handed out, once its
// record is durable. The error is that of a store which failed on this link.
func (g *ledger) storeArrival(msgs []Message, c addressees, hash uint64, now time.Time) (arrival, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.inbox.refuses(g.link); err != nil {
		return arrivedOver, err
	}
	e, a := g.beginLocked(&msgs[0], hash, g.sinceBeganLocked(now))
	if e != nil {
		e.key = g.inbox.enter(e.gen, g.inboxKeyLocked(e.gen), msgs, c)
	}
	return a, nil
}

// haltInbox stops what arrives until the messages of a failed commit are taken out, also
// one that is between refuses and enter.
func (g *ledger) haltInbox(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inbox.halt(err)
}

// enteredLocked takes in what became of a message that was to be entered, and returns it when
// it is durable. Of one that is not nothing is kept: the server sends it again.
func (g *ledger) enteredLocked(f inFact, err error) *inboxItem {
	e := g.lookupLocked(f.gen, f.id)
	if err != nil {
		if e != nil {
			e.key = 0
			g.dropLocked(e)
		}
		g.inbox.takeOut(f.gen, g.link)
		return nil
	}
	if e != nil {
		e.saved, e.state = true, entryAcked
	}
	return g.inbox.item(f.gen)
}

// inboxKeyLocked returns the key in the inbox of the message gen, which is not more than a round of
// generations old.
func (g *ledger) inboxKeyLocked(gen generation) uint64 {
	rounds := g.rounds
	if gen > g.gen {
		rounds--
	}
	return g.inbox.keyOf(rounds<<generationBits | uint64(gen))
}

// inboxKey returns the key of a message, 0 without an inbox, and whether an
// earlier process had it.
func (g *ledger) inboxKey(gen generation) (key uint64, earlier bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inbox == nil || gen == 0 {
		return 0, false
	}
	if it := g.inbox.item(gen); it != nil {
		key = it.key // of one that is older than a round, too
	} else {
		key = g.inboxKeyLocked(gen)
	}
	return key, g.inbox.fromEarlier(key)
}
