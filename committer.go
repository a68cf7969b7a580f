package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/store"
)

// This file is what the session store is given, and the committer: the goroutine that
// writes the batches of journal.go, and carries out what is true once they are durable.

// recordMessageLocked writes r, which was just accepted.
func (o *outbound) recordMessageLocked(r *record) {
	k := o.journal
	r.key, r.staged = k.key(), durMessage
	m := r.stored()
	if r.expires != 0 {
		k.recordClockLocked()
		m.expires = k.clock.at(r.expires)
	}
	k.next.put(store.Outgoing, r.key, r.payload, m.appendHead)
	k.next.facts = append(k.next.facts, outFact{r: r, key: r.key, dur: durMessage})
	o.commitSoonLocked()
}

// recordExchangeLocked writes how far the exchange of r is.
func (o *outbound) recordExchangeLocked(r *record, state exchangeState) {
	k := o.journal
	x := storedExchange{id: r.id, qos: r.qos, state: state}
	switch state {
	case exchangeSent:
		r.staged = durSent
	case exchangeReleased:
		k.releases++
		x.release = k.releases
		r.staged = durReleased
	}
	k.next.put(store.Exchange, r.key, nil, x.append)
	k.next.facts = append(k.next.facts, outFact{r: r, key: r.key, id: r.id, dur: r.staged})
	o.commitSoonLocked()
}

// deleteExchangeLocked forgets the exchange of r, which is as good as never sent.
func (o *outbound) deleteExchangeLocked(r *record) {
	if o.journal == nil {
		return
	}
	r.staged, r.saved = durMessage, min(r.saved, durMessage)
	o.journal.next.remove(store.Exchange, r.key)
	o.commitSoonLocked()
}

// deleteQuarantinedLocked frees the packet identifier of r, which is quarantined.
func (o *outbound) deleteQuarantinedLocked(r *record) {
	if r.staged > durNone {
		o.journal.next.remove(store.Exchange, r.key)
		o.commitSoonLocked()
	}
}

// deleteMessageLocked forgets r, which has ended; a quarantined exchange stays, for the sake
// of its packet identifier.
func (o *outbound) deleteMessageLocked(r *record) {
	if r.staged == durNone {
		return
	}
	k := o.journal
	k.next.remove(store.Outgoing, r.key)
	switch {
	case r.state == recQuarantined:
		o.recordExchangeLocked(r, exchangeQuarantined)
		return
	case r.staged >= durSent:
		k.next.remove(store.Exchange, r.key)
	}
	r.staged, r.saved = durNone, durNone
	o.commitSoonLocked()
}

// recordIncoming writes or deletes an inbound exchange, and tells the ledger when
// that is durable. Called with the ledger's lock held, which comes before ours.
func (o *outbound) recordIncoming(key uint64, f inFact) uint64 {
	o.mu.Lock()
	defer o.unlock()
	k := o.journal
	if f.gone {
		k.next.remove(store.Incoming, key)
	} else {
		key = k.key()
		x := storedIncoming{id: f.id}
		k.next.put(store.Incoming, key, nil, x.append)
	}
	if f.gen != 0 {
		k.next.inbound = append(k.next.inbound, f)
	}
	o.commitSoonLocked()
	return key
}

// recordInbox writes a message that arrived, at QoS 2 with its packet identifier,
// whose key it returns. Called with the ledger's lock held, as recordIncoming.
func (o *outbound) recordInbox(r *storedInbox, key uint64, f inFact) (incoming uint64) {
	o.mu.Lock()
	defer o.unlock()
	k := o.journal
	k.next.put(store.Inbox, key, r.msg.Payload, r.appendHead)
	if r.msg.QoS == 2 {
		incoming = k.key()
		x := storedIncoming{id: f.id}
		k.next.put(store.Incoming, incoming, nil, x.append)
	}
	k.next.inbound = append(k.next.inbound, f)
	o.commitSoonLocked()
	return incoming
}

// deleteInbox deletes a message that the application is done with.
func (o *outbound) deleteInbox(key uint64) {
	o.mu.Lock()
	defer o.unlock()
	o.journal.next.remove(store.Inbox, key)
	o.commitSoonLocked()
}

// commitSoonLocked sees to it that a committer is at work.
func (o *outbound) commitSoonLocked() {
	switch k := o.journal; {
	case k.closed:
		k.next.reset()
	case !k.running:
		k.running = true
		go o.runCommitter()
	}
}

// runCommitter is commit. A session store that ends its goroutine fails for good, with
// what it had in hand.
func (o *outbound) runCommitter() {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			panic(p)
		}
		o.journal.failed(&CallbackError{Function: sessionStore, Exited: true}, true)
	}()
	o.commit()
	returned = true
}

// commit is the committer: it writes batches until nothing is left to write.
// commitSoonLocked starts it, at most one at a time; closing the store waits for it.
func (o *outbound) commit() {
	k := o.journal
	var b storeBatch
	for o.nextBatch(&b) {
		loaded := k.load(b.loads)
		o.mu.Lock()
		for i := range loaded {
			o.fetchedLocked(&loaded[i])
		}
		o.pumpLocked()
		o.unlock()
		if b.feed {
			k.feed() // before what b makes durable, which is newer
		}
		for again := len(b.ops) > 0; again; {
			if again = o.commitBatch(&b); again && !k.pause() {
				o.giveUpStore()
				again = false
			}
		}
		b.reset()
	}
}

// nextBatch exchanges b for what was gathered, and reports whether there was
// anything; otherwise the committer has ended.
func (o *outbound) nextBatch(b *storeBatch) bool {
	o.mu.Lock()
	defer o.unlock()
	k := o.journal
	if k.next.empty() {
		o.resolveDurableLocked(k.no)
		k.no++
		o.pumpLocked()
	}
	if !k.next.empty() {
		*b, k.next = k.next, *b
		b.no = k.no
		k.no++
		return true
	}
	k.running = false
	if k.ended != nil {
		close(k.ended)
		k.ended = nil
	}
	if k.left {
		k.session.Close() // the lock is ours alone by now
	}
	return false
}

// commitBatch writes b, and carries out what follows. It reports whether
// something is left of b, to be tried again: what is to be noted about messages
// that are in the store. It goes on alone, so that new messages for which there
// is no room do not make it fail again.
func (o *outbound) commitBatch(b *storeBatch) (again bool) {
	k := o.journal
	err := k.session.Commit(b.ops)
	if err != nil && slices.ContainsFunc(b.inbound, func(f inFact) bool { return f.inbox }) {
		k.halt(err)
	}
	o.mu.Lock()
	var final bool
	var refused []inFact
	if err == nil {
		o.committedLocked(b)
	} else {
		refused = o.notCommittedLocked(b, err)
		if again = len(b.ops) > 0; again {
			k.failures++
			final = k.failures >= storeFailures
		}
		final = final || errors.Is(err, store.ErrUncertain) // only opening it again tells what it holds
	}
	o.pumpLocked()
	o.checkFlushLocked()
	o.unlock()
	if err == nil {
		refused = b.inbound
	}
	if len(refused) > 0 {
		k.inbound(refused, err)
	}
	if err != nil {
		k.failed(err, final)
	}
	return again
}

// committedLocked applies that b is durable.
func (o *outbound) committedLocked(b *storeBatch) {
	o.journal.failures = 0
	o.resolveDurableLocked(b.no)
	for i := range b.facts {
		f := &b.facts[i]
		r := f.r
		if r.key != f.key || f.dur >= durSent && r.id != f.id || r.staged < f.dur {
			continue // it has ended, or goes on without this packet identifier
		}
		r.saved = max(r.saved, f.dur)
		switch {
		case f.dur == durMessage && r.fut != nil:
			r.fut.setStored()
			o.spillLocked(r)
		case f.dur == durReleased && o.link != nil && r.sentOnLink == o.link.no:
			o.pubrelLocked(r)
		}
	}
}

// resolveDurableLocked resolves what waited for the batches up to number no, and drops their tombstones.
func (o *outbound) resolveDurableLocked(no uint64) {
	k := o.journal
	k.dropTombstones(no)
	n := 0
	for ; n < len(k.ends) && k.ends[n].batch <= no; n++ {
		o.resolved = append(o.resolved, k.ends[n].resolution)
	}
	k.ends = slices.Delete(k.ends, 0, n)
}

// spillLocked leaves the payload of r, which waits in the queue, to the store alone
// when more than the budget is in memory.
func (o *outbound) spillLocked(r *record) {
	if r.list != &o.q12 || len(r.payload) == 0 {
		return
	}
	if k := o.journal; k.resident+len(r.payload) > k.budget {
		r.payload, r.onDisk = nil, true
	} else {
		k.resident += len(r.payload)
		r.resident = true
	}
}

// notCommittedLocked fails the messages that b was to bring into the store, and takes
// them out of it, as well as the inbound identifiers, which it returns: the
// ledger is told that they are not durable, and asks again.
func (o *outbound) notCommittedLocked(b *storeBatch, err error) (refused []inFact) {
	lost := map[uint64]bool{}
	uncertain := errors.Is(err, store.ErrUncertain)
	for i := range b.facts {
		if f := &b.facts[i]; f.dur == durMessage {
			lost[f.key] = true
			if r := f.r; r.key == f.key && r.fut != nil {
				r.staged = durNone // there is nothing to delete
				if uncertain {
					r.saved = durMessage
				}
				o.unqueueLocked(r)
				o.finishLocked(r, &StoreError{Op: "write", Err: err})
			}
		}
	}
	refused = b.refuse(nil)
	b.drop(func(op *store.Op) bool {
		return lost[op.Key.Seq] && op.Key.Kind != store.Inbox || op.Key.Kind == store.Meta // the clocks are of no use alone
	}, lost)
	next := &o.journal.next
	next.drop(func(op *store.Op) bool { return lost[op.Key.Seq] && op.Key.Kind != store.Inbox }, lost)
	if slices.ContainsFunc(refused, func(f inFact) bool { return f.inbox }) {
		refused = next.refuse(refused) // what came later must not be entered first
	}
	if uncertain {
		o.resolveUndeletedLocked() // nor is anything deleted after it
	} else {
		o.resolveNeverStoredLocked(lost)
	}
	return refused
}

// resolveNeverStoredLocked resolves what waited for the deletion of messages that no commit
// brought into the store.
func (o *outbound) resolveNeverStoredLocked(lost map[uint64]bool) {
	k := o.journal
	k.ends = slices.DeleteFunc(k.ends, func(e awaitingDelete) bool {
		if lost[e.key] {
			o.resolved = append(o.resolved, e.resolution)
		}
		return lost[e.key]
	})
}

// resolveUndeletedLocked resolves what waits for deletions that fail, or hang beyond the end
// of the Conn: a later one may find the messages.
func (o *outbound) resolveUndeletedLocked() {
	for i := range o.journal.ends {
		e := &o.journal.ends[i]
		if p, ok := e.err.(*PublishError); ok {
			p.Kept = true // no caller has seen it yet
		}
		o.resolved = append(o.resolved, e.resolution)
	}
	clear(o.journal.ends)
	o.journal.ends = o.journal.ends[:0]
}

// giveUpStore drops what a failing store could not write, since the Conn ends. A
// later process finds the session a little behind: what is sent again then, the
// server recognises, or it doubles at QoS 1.
func (o *outbound) giveUpStore() {
	o.mu.Lock()
	defer o.unlock()
	next := &o.journal.next
	for i := range next.facts {
		if f := &next.facts[i]; f.r.key == f.key && f.r.saved == durNone {
			f.r.staged = durNone // nothing brings it into the store any more
		}
	}
	next.reset()
	o.resolveUndeletedLocked()
}

// fetchLocked has the payload of r, which is in the store alone, brought into memory.
func (o *outbound) fetchLocked(r *record) {
	o.journal.next.loads = append(o.journal.next.loads, outFact{r: r, key: r.key})
	o.commitSoonLocked()
}

// fetchedLocked puts a payload where it is waited for.
func (o *outbound) fetchedLocked(l *loadedPayload) {
	r := l.r
	if r.key != l.key || !r.onDisk {
		return
	}
	if l.err != nil {
		o.notFetchedLocked(l)
		return
	}
	r.payload, r.onDisk = l.payload, false
}

// notFetchedLocked gives up a message whose payload is damaged. A payload that could
// not be read this time is tried again after a rest, while others are committed, and in
// the end left in the store: a later process may be able to read it.
func (o *outbound) notFetchedLocked(l *loadedPayload) {
	r := l.r
	err := &StoreError{Op: "read", Err: l.err}
	if r.reads++; !l.gone() && r.reads < storeFailures {
		key := l.key
		time.AfterFunc(storePause, func() { o.fetchAgain(r, key) })
		return
	}
	o.skipLocked(r)
	if !l.gone() {
		o.deleteExchangeLocked(r)
		r.staged = durNone
		o.log(StoreFailed{Err: err})
	}
	o.finishLocked(r, err)
}

// fetchAgain is fetch after a rest, unless r has ended meanwhile.
func (o *outbound) fetchAgain(r *record, key uint64) {
	o.mu.Lock()
	defer o.unlock()
	if r.key == key && r.onDisk && !o.journal.closed {
		o.fetchLocked(r)
	}
}

// flushStore waits until everything gathered is written, at most for a time, and
// reports whether it is. Commits that fail are not tried again from here on.
func (o *outbound) flushStore(atMost time.Duration) bool {
	k := o.journal
	o.mu.Lock()
	select {
	case <-k.closeNow:
	default:
		close(k.closeNow)
	}
	if !k.running {
		o.mu.Unlock()
		return true
	}
	if k.ended == nil {
		k.ended = make(chan struct{})
	}
	quiet := k.ended
	o.mu.Unlock()
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-quiet:
		return true
	case <-t.C:
		return false
	}
}

// closeStore lets go of the store once everything is written. A commit that
// hangs is left to the committer, which then closes the session.
func (o *outbound) closeStore(atMost time.Duration) error {
	k := o.journal
	deadline := time.Now().Add(atMost)
	written := o.flushStore(atMost)
	o.mu.Lock()
	for written && k.running { // it was started again
		o.mu.Unlock()
		written = o.flushStore(time.Until(deadline))
		o.mu.Lock()
	}
	k.closed = true // what comes now is of no use
	k.left = k.running
	o.mu.Unlock()
	if k.left {
		return &StoreError{Op: "close", Err: errStoreHangs}
	}
	if err := k.session.Close(); err != nil {
		return &StoreError{Op: "close", Err: err}
	}
	return nil
}
