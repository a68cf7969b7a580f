package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/store"
)

// journal is what outbound gives the session store: the operations to be written next,
// and the facts that become true once they are durable. Each change of the session
// adds to it under outbound's lock; a committer goroutine, which exists while there is
// something to write, takes everything gathered so far as one batch. So
// publishes that come during a commit share the next one, and no
// goroutine but the committer ever waits for the disk.
//
// Batches are committed in the order they were gathered. So a record is always
// deleted before its packet identifier, then free, is given to another.
type journal struct {
	session  store.Session
	inbound  func([]inFact, error) // tells the ledger; called without a lock
	failed   func(err error, final bool)
	halt     func(error)   // stops what would be entered in the inbox; called without a lock, before inbound is told
	feed     func()        // hands out what waits in the inbox; called without a lock; nil without one
	epoch    uint64        // number of this process, the high bits of its keys
	budget   int           // bytes of queued payloads that stay in memory as well
	closeNow chan struct{} // closed when a failed commit is not to be tried again
	clock    sessionClock

	// Guarded by outbound.mu.
	seq        uint64 // of the newest key
	releases   uint64 // PUBRECs so far
	next       storeBatch
	running    bool             // a committer is at work
	ended      chan struct{}    // closed when the committer ends; nil while no call waits for that
	closed     bool             // nothing is written any more
	left       bool             // no call waits for the committer: it closes the session
	resident   int              // bytes of queued payloads in memory
	failures   int              // commits that failed since one went through
	no         uint64           // of next
	ends       []awaitingDelete // in the order of their batches
	tombstones []tombstone      // in the order of their batches
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
	gen  generation
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

func (b *storeBatch) reset() {
	clear(b.ops)
	clear(b.facts)
	clear(b.loads)
	*b = storeBatch{ops: b.ops[:0], facts: b.facts[:0], inbound: b.inbound[:0], loads: b.loads[:0], arena: b.arena[:0]}
	if cap(b.arena) > sendBufferKeep {
		b.arena = nil
	}
	if cap(b.ops) > batchKeep {
		b.ops, b.facts = nil, nil
	}
}

// key returns a key that was never used in this session.
func (k *journal) key() uint64 {
	k.seq++
	return k.epoch<<keyEpoch | k.seq
}

// stored is what is kept of r, but for its expiry.
func (r *record) stored() storedMessage {
	return storedMessage{
		key: r.appKey, topic: r.topic, payload: r.payload,
		props: r.props, qos: r.qos, retain: r.retain,
	}
}

// recordClockLocked stores the clocks with the batch that is gathered.
func (k *journal) recordClockLocked() {
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

// A Future that fails says that its message is given up. With a session store
// that is so only once the message's record is gone from there: a process that
// dies before leaves the message to the next one. So these Futures wait for the
// commit that deletes the record, and one that resolved has told the truth.

// awaitingDelete is a Future that resolves when a batch is durable.
type awaitingDelete struct {
	resolution
	key   uint64 // of the message's record
	batch uint64 // number of the batch that deletes it, or of one behind
}

// awaitDeleteLocked makes r, the end of the message with that key, wait for the deletion,
// which is gathered.
func (k *journal) awaitDeleteLocked(r resolution, key uint64) {
	k.ends = append(k.ends, awaitingDelete{r, key, k.no})
}

// A message that has its packet identifier in the session store but ends unsent
// (expired, canceled, beyond what the server takes) leaves a tombstone in the order.
// A process that dies before the store has let go of it leaves it to the next one,
// which has to take it for sent, and sends it again where it stood: before
// messages that were accepted later. So these wait until the deletion is durable,
// or the messages sent again would be out of order [MQTT-4.6.0-1]. A message dropped
// to make room for newer ones leaves no tombstone: under overload there is always another
// drop that is not durable yet, and nothing would be sent.

// tombstone is the place of a message that ended unsent.
type tombstone struct {
	seq   uint64 // of the message
	batch uint64 // number of the batch that deletes it, or of one behind
}

// blockedByTombstone reports whether r has to wait for the deletion of an earlier message.
func (k *journal) blockedByTombstone(r *record) bool {
	if k == nil {
		return false
	}
	for _, g := range k.tombstones {
		if g.seq < r.seq {
			return true
		}
	}
	return false
}

// dropTombstones forgets those that batches up to number no made durable.
func (k *journal) dropTombstones(no uint64) {
	for len(k.tombstones) > 0 && k.tombstones[0].batch <= no {
		k.tombstones = k.tombstones[1:]
	}
	if len(k.tombstones) == 0 {
		k.tombstones = nil
	}
}

// loadedPayload is a payload that was fetched.
type loadedPayload struct {
	outFact
	payload []byte
	err     error
}

// gone reports whether the record is not there any more, or not as it was written.
func (l *loadedPayload) gone() bool {
	_, damaged := errors.AsType[*store.DamageError](l.err)
	return damaged || errors.Is(l.err, store.ErrNotFound) || errors.Is(l.err, errStoredValue) || errors.Is(l.err, errStoredFormat)
}

// load fetches payloads.
func (k *journal) load(facts []outFact) []loadedPayload {
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

// pause waits before a failed commit is tried again, and reports whether to.
func (k *journal) pause() bool {
	t := time.NewTimer(storePause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-k.closeNow:
		return false
	}
}

// storePause is how long a failed commit rests.
const storePause = 500 * time.Millisecond
