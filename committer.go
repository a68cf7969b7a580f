package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/store"
)

// This file is the committer: the goroutine that writes the batches of keeper.go.

// commit is the committer: it writes batches until nothing is left to write.
// commitSoon starts it, at most one at a time; closing the store waits for it.
func (o *outbound) commit() {
	k := o.keep
	var b storeBatch
	for o.nextBatch(&b) {
		loaded := k.load(b.loads)
		o.mu.Lock()
		for i := range loaded {
			o.fetched(&loaded[i])
		}
		o.pump()
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

// commitBatch writes b, and tells everybody what came of it. It reports whether
// something is left of b, to be tried again: what is to be noted about messages
// that are in the store. It goes on alone, so that new messages for which there
// is no room do not make it fail again.
func (o *outbound) commitBatch(b *storeBatch) (again bool) {
	k := o.keep
	err := k.session.Commit(b.ops)
	if err != nil && slices.ContainsFunc(b.inbound, func(f inFact) bool { return f.inbox }) {
		k.halt(err)
	}
	o.mu.Lock()
	var final bool
	var refused []inFact
	if err == nil {
		o.committed(b)
	} else {
		refused = o.notCommitted(b, err)
		if again = len(b.ops) > 0; again {
			k.failures++
			final = k.failures >= storeFailures
		}
		final = final || errors.Is(err, store.ErrUncertain) // only opening it again tells what it holds
	}
	o.pump()
	o.checkFlush()
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

// nextBatch exchanges b for what was gathered, and reports whether there was
// anything; otherwise the committer has ended.
func (o *outbound) nextBatch(b *storeBatch) bool {
	o.mu.Lock()
	defer o.unlock()
	k := o.keep
	if k.next.empty() {
		o.durable(k.no)
		k.no++
		o.pump()
	}
	if !k.next.empty() {
		*b, k.next = k.next, *b
		b.no = k.no
		k.no++
		return true
	}
	k.running = false
	if k.quiet != nil {
		close(k.quiet)
		k.quiet = nil
	}
	if k.left {
		k.session.Close() // the lock is ours alone by now
	}
	return false
}

// giveUpStore drops what a failing store could not write, since the Conn ends. A
// later process finds the session a little behind: what is sent again then, the
// server recognises, or it doubles at QoS 1.
func (o *outbound) giveUpStore() {
	o.mu.Lock()
	defer o.unlock()
	next := &o.keep.next
	for i := range next.facts {
		if f := &next.facts[i]; f.r.key == f.key && f.r.saved == durNone {
			f.r.staged = durNone // nothing brings it into the store any more
		}
	}
	next.reset()
	o.undeleted()
}

// flushStore waits until everything gathered is written, at most for a time, and
// reports whether it is. Commits that fail are not tried again from here on.
func (o *outbound) flushStore(atMost time.Duration) bool {
	k := o.keep
	o.mu.Lock()
	select {
	case <-k.hurry:
	default:
		close(k.hurry)
	}
	if !k.running {
		o.mu.Unlock()
		return true
	}
	if k.quiet == nil {
		k.quiet = make(chan struct{})
	}
	quiet := k.quiet
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
	k := o.keep
	deadline := time.Now().Add(atMost)
	written := o.flushStore(atMost)
	o.mu.Lock()
	for written && k.running { // somebody woke it again
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

// committed applies that b is durable.
func (o *outbound) committed(b *storeBatch) {
	o.keep.failures = 0
	o.durable(b.no)
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
			o.spill(r)
		case f.dur == durReleased && o.link != nil && r.wire == o.link.no:
			o.pubrel(r)
		}
	}
}

// spill leaves the payload of r, which waits in the queue, to the store alone
// when more than the budget is in memory.
func (o *outbound) spill(r *record) {
	if r.list != &o.q12 || len(r.payload) == 0 {
		return
	}
	if k := o.keep; k.resident+len(r.payload) > k.budget {
		r.payload, r.onDisk = nil, true
	} else {
		k.resident += len(r.payload)
		r.resident = true
	}
}

// notCommitted fails the messages that b was to bring into the store, and takes
// them out of it, as well as the inbound identifiers, which it returns: the
// ledger is told that they are not durable, and asks again.
func (o *outbound) notCommitted(b *storeBatch, err error) (refused []inFact) {
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
				o.unqueue(r)
				o.finish(r, &StoreError{Op: "write", Err: err})
			}
		}
	}
	refused = b.refuse(nil)
	b.drop(func(op *store.Op) bool {
		return lost[op.Key.Seq] && op.Key.Kind != store.Inbox || op.Key.Kind == store.Meta // the clocks are of no use alone
	}, lost)
	next := &o.keep.next
	next.drop(func(op *store.Op) bool { return lost[op.Key.Seq] && op.Key.Kind != store.Inbox }, lost)
	if slices.ContainsFunc(refused, func(f inFact) bool { return f.inbox }) {
		refused = next.refuse(refused) // what came later must not be entered first
	}
	if uncertain {
		o.undeleted() // nor is anything deleted after it
	} else {
		o.neverThere(lost)
	}
	return refused
}

// refuse takes out what arrived, and appends the facts about it.
func (b *storeBatch) refuse(refused []inFact) []inFact {
	for _, f := range b.inbound {
		if !f.gone {
			refused = append(refused, f)
		}
	}
	b.inbound = slices.DeleteFunc(b.inbound, func(f inFact) bool { return !f.gone })
	b.ops = slices.DeleteFunc(b.ops, func(op store.Op) bool {
		return (op.Key.Kind == store.Incoming || op.Key.Kind == store.Inbox) && !op.Delete
	})
	return refused
}

// drop takes out the ops that unwanted names, and the facts about lost records.
func (b *storeBatch) drop(unwanted func(*store.Op) bool, lost map[uint64]bool) {
	b.ops = slices.DeleteFunc(b.ops, func(op store.Op) bool { return unwanted(&op) })
	b.facts = slices.DeleteFunc(b.facts, func(f outFact) bool { return lost[f.key] })
}

// pause waits before a failed commit is tried again, and reports whether to.
func (k *keeper) pause() bool {
	t := time.NewTimer(storePause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.hurry:
		return false
	}
}

// storePause is how long a failed commit rests.
const storePause = 500 * time.Millisecond

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
		o.keep.failed(&CallbackError{Function: sessionStore, Exited: true}, true)
	}()
	o.commit()
	returned = true
}
