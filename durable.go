package mqtt

import (
	"log/slog"
	"math"
)

// This file ties the session store and the durable inbox to a Conn.

// openStore opens the session store, if there is one, and restores the session that an
// earlier process left in it.
func (c *Conn) openStore() error {
	if c.cfg.store == nil {
		return nil
	}
	session, r, err := openSessionAt(c.cfg.clock, c.cfg.store, c.cfg.clientID, c.cfg.storeMemory)
	if err != nil {
		return err
	}
	c.restored = r.found
	c.out.journal = &journal{
		session: session, epoch: r.epoch, budget: c.cfg.storeMemory,
		closeNow: make(chan struct{}), inbound: c.storedInbound, failed: c.storeFailed,
	}
	if l := session.Limits(); l.Messages > 0 {
		c.out.cfg.messages = l.Messages
	}
	if l := session.Limits(); l.Bytes > 0 {
		c.out.cfg.bytes = int(min(l.Bytes, math.MaxInt))
	}
	c.out.restore(r)
	c.ledger.persist = c.out.recordIncoming
	if c.cfg.inbox {
		c.openInbox(r.epoch, r.inbox)
	}
	c.ledger.restore(r.incoming)
	for _, d := range r.damaged {
		c.emit(d)
		c.record(slog.LevelWarn, "record of the session store set aside", "client", c.cfg.clientID, "error", d.Err, "left", d.Left)
	}
	return nil
}

// storedInbound gives the result of a commit to the ledger and the inbox. A PUBLISH whose
// record could not be written is not acknowledged, and the link ends [MQTT-4.8.0-2].
func (c *Conn) storedInbound(facts []inFact, err error) {
	if entered := c.ledger.committed(facts, err); len(entered) > 0 {
		c.inbox.deliver(entered)
	}
	if c.inbox != nil {
		c.inbox.tellDrain()
	}
	if l := c.current(); l != nil && err != nil {
		l.kill(&StoreError{Op: "write", Err: err})
	}
}

// storeFailed reports a failed commit. A final one, after too many, ends the Conn.
func (c *Conn) storeFailed(err error, final bool) {
	err = &StoreError{Op: "write", Err: err}
	c.emit(StoreFailed{Err: err, Final: final})
	c.record(slog.LevelError, "session store failed", "client", c.ClientID(), "error", err, "final", final)
	if final {
		c.beginClose()
		c.cancel(err)
	}
}

// openInbox makes the inbox, with the messages that earlier processes left.
func (c *Conn) openInbox(epoch uint64, earlier []*inboxItem) {
	book := &inboxBook{items: map[generation]*inboxItem{}, epoch: epoch, write: c.out.recordInbox, remove: c.out.deleteInbox}
	in := &inbox{
		reporter: c.reporter, book: book, out: c.out, routes: c.routes, up: c.up,
		timers: &c.timers, draining: &c.draining, grace: c.cfg.backlogGrace,
		waits: newWaiting(), queues: map[*Subscription]*inboxQueue{}, hasEarlier: len(earlier) > 0,
	}
	c.inbox, c.up.inbox, c.routes.giveUpFilters = in, in, in.giveUpFilters
	c.ledger.openInbox(book, earlier)
	in.countUnclaimedAnew()
	c.out.journal.halt, c.out.journal.feed = c.ledger.haltInbox, in.feed
	for _, it := range earlier {
		it.claims, it.anyMatch = claimsOf(it.names), len(it.names) == 0
		in.index(it)
	}
}

// beginInbox lets the inbox hand out messages to the declared subscriptions, and begins the
// time in which others may return after a restart.
func (c *Conn) beginInbox() {
	if c.inbox == nil {
		return
	}
	if c.inbox.hasEarlier {
		c.inbox.beginGrace()
	}
	var subs []*Subscription
	for _, s := range c.routes.subscriptions() {
		if !s.placeholder && s.markReturned() {
			subs = append(subs, s)
		}
	}
	c.inbox.subscriptionsArrived(subs...)
}
