package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// entryState is where an inbound exchange stands.
type entryState uint8

const (
	entryHeld     entryState = iota // delivered, not acknowledged by the application
	entryAcked                      // acknowledgement waits for its turn, or for a link
	entryReceived                   // QoS 2: PUBREC paid, PUBREL awaited
)

// entry is one inbound QoS 1 or 2 exchange.
type entry struct {
	next       *entry // in the free list
	hash       uint64 // of topic and payload
	gen        generation
	stale      generation    // generation of the message it replaced before that was acknowledged
	unfinished owners        // subscriptions that have not finished with it
	since      time.Duration // arrival, coarse, on the ledger's clock
	topic      string
	id         uint16
	qos        QoS
	state      entryState
	code       codec.ReasonCode // of the acknowledgement
	key        uint64           // of its record in the session store, 0 for none
	saved      bool             // the record is durable: PUBREC may be sent
	deleting   bool             // the record is being deleted: PUBCOMP follows
	queued     bool             // in the order of the current link
	awaited    bool             // the end of the link waits for its PUBREL
	counted    bool             // counts towards our Receive Maximum on this link
	dead       bool             // replaced by a new message with its id; skipped in the order
}

func (g *ledger) newEntryLocked() *entry {
	e := g.free
	if e == nil {
		return new(entry)
	}
	g.free, e.next = e.next, nil
	g.nfree--
	return e
}

// maxFreeEntries is how many ended entries are kept for reuse.
const maxFreeEntries = 1024

func (g *ledger) recycleLocked(e *entry) {
	e.unfinished.reset()
	*e = entry{unfinished: e.unfinished}
	if g.nfree < maxFreeEntries {
		e.next, g.free = g.free, e
		g.nfree++
	}
}

// entryQueue is a ring of entries.
type entryQueue struct {
	ring      []*entry
	head      int
	n         int
	persisted int // how many of the first have a record, or need none
}

func (q *entryQueue) len() int { return q.n }

func (q *entryQueue) at(i int) *entry { return q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *entryQueue) push(e *entry) {
	if q.n == len(q.ring) {
		ring := make([]*entry, max(16, 2*len(q.ring)))
		for i := range q.n {
			ring[i] = q.at(i)
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = e
	q.n++
}

func (q *entryQueue) pop() *entry {
	e := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	q.persisted = max(q.persisted-1, 0)
	return e
}

// drain empties the queue.
func (q *entryQueue) drain(f func(*entry)) {
	for q.n > 0 {
		f(q.pop())
	}
	q.ring, q.head = nil, 0
}
