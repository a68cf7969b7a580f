package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/store"
)

// keeper is outbound's hold on the session store: what is to be written next,
// and what becomes true once it is durable. Whoever changes the session under
// outbound's lock adds to it; a committer goroutine, which exists while there is
// something to write, takes everything gathered so far as one batch. So
// publishes that come while a commit is under way share the next one, and no
// goroutine but the committer ever waits for the disk.
//
// Batches are committed in the order they were gathered. So a record is always
// deleted before its packet identifier, then free, is given to another.
type keeper struct {
	session store.Session
	inbound func([]inFact, error) // tells the ledger; called without a lock
	failed  func(err error, final bool)
	halt    func(error)   // stops what would be entered in the inbox; called without a lock, before inbound is told
	feed    func()        // hands out what waits in the inbox; called without a lock; nil without one
	epoch   uint64        // number of this process, the high bits of its keys
	budget  int           // bytes of queued payloads that stay in memory as well
	hurry   chan struct{} // closed when a failed commit is not to be tried again

	// Guarded by outbound.mu.
	seq      uint64 // of the newest key
	releases uint64 // PUBRECs so far
	next     storeBatch
	running  bool          // a committer is at work
	quiet    chan struct{} // closed when it ends, for who waits for that; nil when nobody does
	closed   bool          // nothing is written any more
	left     bool          // nobody waits for the committer: it closes the session
	resident int           // bytes of queued payloads in memory
	failures int           // commits that failed since one went through
	no       uint64        // of next
	ends     []heldEnd     // in the order of their batches
	gaps     []gap         // in the order of their batches
}

// durability is how much of an outgoing message the store holds.
type durability uint8

const (
	durNone     durability = iota
	durMessage             // the message: it survives this process
	durSent                // and its packet identifier: the PUBLISH may be written
	durReleased            // and that the server owns it: the PUBREL may be written
)

// storeBatch is what is written, or fetched, at once.
type storeBatch struct {
	ops     []store.Op
	facts   []outFact
	inbound []inFact
	loads   []outFact
	feed    bool   // hand out what waits in the inbox
	arena   []byte // what the ops' heads are cut from
	no      uint64 // counts batches
}

// outFact is what is true of a record once a batch is committed. The record may
// have ended, and may be another message's, by then: key and id tell.
type outFact struct {
	r   *record
	key uint64
	id  uint16
	dur durability
}

// inFact is what is true of an inbound exchange once a batch is committed.
type inFact struct {
	gen  uint32
	id   uint16
	gone bool // its record is deleted: PUBCOMP may be sent; else written: PUBREC may

	inbox bool // the message itself is written too: it may be acknowledged, and handed out
}

const (
	// keyEpoch is where the number of the process stands in a key.
	keyEpoch = 40
	// storeFailures is how many commits in a row may fail before the Conn ends,
	// when what they had to write is needed to go on.
	storeFailures = 10
	// loadBytes is how many bytes of payloads are fetched at once.
	loadBytes = 4 << 20
	// batchKeep is how many operations a batch keeps memory for.
	batchKeep = 4096
)

func (b *storeBatch) empty() bool { return len(b.ops)+len(b.loads) == 0 && !b.feed }

func (b *storeBatch) reset() {
	clear(b.ops)
	clear(b.facts)
	clear(b.loads)
	*b = storeBatch{ops: b.ops[:0], facts: b.facts[:0], inbound: b.inbound[:0], loads: b.loads[:0], arena: b.arena[:0]}
	if cap(b.arena) > outbufKeep {
		b.arena = nil
	}
	if cap(b.ops) > batchKeep {
		b.ops, b.facts = nil, nil
	}
}

// key returns a key that was never used in this session.
func (k *keeper) key() uint64 {
	k.seq++
	return k.epoch<<keyEpoch | k.seq
}

// put adds a write; fill appends what comes before body.
func (b *storeBatch) put(kind store.Kind, key uint64, body []byte, fill func([]byte) []byte) {
	at := len(b.arena)
	b.arena = fill(b.arena)
	end := len(b.arena)
	b.ops = append(b.ops, store.Op{Key: store.Key{Kind: kind, Seq: key}, Head: b.arena[at:end:end], Body: body})
}

func (b *storeBatch) remove(kind store.Kind, key uint64) {
	b.ops = append(b.ops, store.Op{Key: store.Key{Kind: kind, Seq: key}, Delete: true})
}

// keepMessage writes r, which was just accepted.
func (o *outbound) keepMessage(r *record) {
	k := o.keep
	r.key, r.staged = k.key(), durMessage
	m := r.stored()
	k.next.put(store.Outgoing, r.key, r.payload, m.appendHead)
	k.next.facts = append(k.next.facts, outFact{r: r, key: r.key, dur: durMessage})
	o.commitSoon()
}

func (r *record) stored() storedMessage {
	return storedMessage{
		expires: r.expires, key: r.appKey, topic: r.topic, payload: r.payload,
		props: r.props, qos: r.qos, retain: r.retain,
	}
}

// keepExchange writes how far the exchange of r is.
func (o *outbound) keepExchange(r *record, state exchangeState) {
	k := o.keep
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
	o.commitSoon()
}

// unkeepExchange forgets the exchange of r, which is as good as never sent.
func (o *outbound) unkeepExchange(r *record) {
	if o.keep == nil {
		return
	}
	r.staged, r.saved = durMessage, min(r.saved, durMessage)
	o.keep.next.remove(store.Exchange, r.key)
	o.commitSoon()
}

// unkeepAside frees the packet identifier of r, which was set aside.
func (o *outbound) unkeepAside(r *record) {
	if r.staged > durNone {
		o.keep.next.remove(store.Exchange, r.key)
		o.commitSoon()
	}
}

// unkeep forgets r, which has ended; an exchange set aside stays, for the sake
// of its packet identifier.
func (o *outbound) unkeep(r *record) {
	if r.staged == durNone {
		return
	}
	k := o.keep
	k.next.remove(store.Outgoing, r.key)
	switch {
	case r.state == recAside:
		o.keepExchange(r, exchangeAside)
		return
	case r.staged >= durSent:
		k.next.remove(store.Exchange, r.key)
	}
	r.staged, r.saved = durNone, durNone
	o.commitSoon()
}

// keepIncoming writes or deletes an inbound exchange, and tells the ledger when
// that is durable. Called with the ledger's lock held, which comes before ours.
func (o *outbound) keepIncoming(key uint64, f inFact) uint64 {
	o.mu.Lock()
	defer o.unlock()
	k := o.keep
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
	o.commitSoon()
	return key
}

// keepInbox writes a message that arrived, at QoS 2 with its packet identifier,
// whose key it returns. Called with the ledger's lock held, as keepIncoming.
func (o *outbound) keepInbox(r *storedInbox, key uint64, f inFact) (incoming uint64) {
	o.mu.Lock()
	defer o.unlock()
	k := o.keep
	k.next.put(store.Inbox, key, r.msg.Payload, r.appendHead)
	if r.msg.QoS == 2 {
		incoming = k.key()
		x := storedIncoming{id: f.id}
		k.next.put(store.Incoming, incoming, nil, x.append)
	}
	k.next.inbound = append(k.next.inbound, f)
	o.commitSoon()
	return incoming
}

// unkeepInbox deletes a message that the application is done with.
func (o *outbound) unkeepInbox(key uint64) {
	o.mu.Lock()
	defer o.unlock()
	o.keep.next.remove(store.Inbox, key)
	o.commitSoon()
}

// fetch has the payload of r, which is in the store alone, brought into memory.
func (o *outbound) fetch(r *record) {
	o.keep.next.loads = append(o.keep.next.loads, outFact{r: r, key: r.key})
	o.commitSoon()
}

// commitSoon sees to it that a committer is at work.
func (o *outbound) commitSoon() {
	switch k := o.keep; {
	case k.closed:
		k.next.reset()
	case !k.running:
		k.running = true
		go o.commit()
	}
}

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
	o.keep.next.reset()
	o.undeleted()
}

// flushStore waits until everything gathered is written, at most for a time, and
// reports whether it is. Commits that fail are not tried again from here on.
func (o *outbound) flushStore(atMost time.Duration) bool {
	k := o.keep
	select {
	case <-k.hurry:
	default:
		close(k.hurry)
	}
	o.mu.Lock()
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
	o.flushStore(atMost)
	o.mu.Lock()
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

// errStoreHangs is why a Conn ended without closing its session's store.
var errStoreHangs = errors.New("a commit does not return")

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
	b.drop(func(op *store.Op) bool { return lost[op.Key.Seq] && op.Key.Kind != store.Inbox }, lost)
	next := &o.keep.next
	next.drop(func(op *store.Op) bool { return lost[op.Key.Seq] && op.Key.Kind != store.Inbox }, lost)
	if slices.ContainsFunc(refused, func(f inFact) bool { return f.inbox }) {
		refused = next.refuse(refused) // what came later must not be entered first
	}
	if !uncertain {
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

// loadedPayload is a payload that was fetched.
type loadedPayload struct {
	outFact
	payload []byte
	err     error
}

// load fetches payloads.
func (k *keeper) load(facts []outFact) []loadedPayload {
	if len(facts) == 0 {
		return nil
	}
	keys := make([]store.Key, len(facts))
	loaded := make([]loadedPayload, len(facts))
	for i, f := range facts {
		keys[i] = store.Key{Kind: store.Outgoing, Seq: f.key}
		loaded[i].outFact = f
	}
	for at := 0; at < len(keys); {
		from := at
		err := k.session.Read(keys[from:], func(i int, value []byte) error {
			var m storedMessage
			l := &loaded[from+i]
			if l.err = m.decode(value); l.err == nil {
				l.payload = slices.Clone(m.payload)
			}
			at = from + i + 1
			return nil
		})
		if err != nil && at < len(keys) {
			loaded[at].err = err
			at++
		}
	}
	return loaded
}

// fetched puts a payload where it is waited for.
func (o *outbound) fetched(l *loadedPayload) {
	r := l.r
	if r.key != l.key || !r.onDisk {
		return
	}
	if l.err != nil {
		o.notFetched(l)
		return
	}
	r.payload, r.onDisk = l.payload, false
}

// notFetched gives up a message whose payload is damaged. What could not be read
// this time is tried again with a rest, while others are committed, and in the end
// left in the store: a later process may be able to.
func (o *outbound) notFetched(l *loadedPayload) {
	r := l.r
	err := &StoreError{Op: "read", Err: l.err}
	if r.reads++; !l.gone() && r.reads < storeFailures {
		key := l.key
		time.AfterFunc(storePause, func() { o.fetchAgain(r, key) })
		return
	}
	o.passOver(r)
	if !l.gone() {
		o.unkeepExchange(r)
		r.staged = durNone
		o.log(StoreFailed{Err: err})
	}
	o.finish(r, err)
}

// gone reports whether the record is not there any more, or not as it was written.
func (l *loadedPayload) gone() bool {
	_, damaged := errors.AsType[*store.DamageError](l.err)
	return damaged || errors.Is(l.err, store.ErrNotFound) || errors.Is(l.err, errStoredValue) || errors.Is(l.err, errStoredFormat)
}

// fetchAgain is fetch after a rest, unless r has ended meanwhile.
func (o *outbound) fetchAgain(r *record, key uint64) {
	o.mu.Lock()
	defer o.unlock()
	if r.key == key && r.onDisk && !o.keep.closed {
		o.fetch(r)
	}
}
