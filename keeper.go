package mqtt

import (
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
	clock   sessionClock

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

// storeBatch is what is written, or fetched, at once.
type storeBatch struct {
	ops     []store.Op
	facts   []outFact
	inbound []inFact
	loads   []outFact
	feed    bool   // hand out what waits in the inbox
	clock   bool   // the clocks are among ops
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
	if r.expires != 0 {
		o.keepClock()
		m.expires = k.clock.at(r.expires)
	}
	k.next.put(store.Outgoing, r.key, r.payload, m.appendHead)
	k.next.facts = append(k.next.facts, outFact{r: r, key: r.key, dur: durMessage})
	o.commitSoon()
}

// stored is what is kept of r, but for its expiry.
func (r *record) stored() storedMessage {
	return storedMessage{
		key: r.appKey, topic: r.topic, payload: r.payload,
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

// commitSoon sees to it that a committer is at work.
func (o *outbound) commitSoon() {
	switch k := o.keep; {
	case k.closed:
		k.next.reset()
	case !k.running:
		k.running = true
		go o.runCommitter()
	}
}

// keepClock stores the clocks with the batch that is gathered. o.mu is held.
func (o *outbound) keepClock() {
	k := o.keep
	if k.clock.fixed || k.next.clock {
		return
	}
	if k.clock.uptime == nil {
		k.clock.begin(systemClock, nil)
	}
	k.next.clock = true
	m := storedMeta{epoch: k.epoch, clock: k.clock.reading()}
	k.next.put(store.Meta, 0, nil, m.append)
}

// followWallClock stores the clocks anew when the wall clock was set: what the next
// process finds must not count that as time that passed. o.mu is held.
func (o *outbound) followWallClock() {
	if k := o.keep; !k.closed && k.clock.wasSet() {
		o.keepClock()
		o.commitSoon()
	}
}
