package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// recordState is where an outgoing exchange stands.
type recordState uint8

const (
	recQueued      recordState = iota // accepted, not encoded: policies and Cancel may take it
	recSent                           // PUBLISH appended, PUBACK or PUBREC awaited
	recReleased                       // PUBREC seen, PUBREL owed or sent, PUBCOMP awaited
	recQuarantined                    // never sent again; its id stays taken until the session ends
	recControl                        // a SUBSCRIBE or UNSUBSCRIBE, its answer awaited
)

// durability is how much of an outgoing message the store holds.
type durability uint8

const (
	durNone     durability = iota
	durMessage             // the message: it survives this process
	durSent                // and its packet identifier: the PUBLISH may be written
	durReleased            // and that the server owns it: the PUBREL may be written
)

// record is one outgoing message from acceptance to resolution, or a control
// exchange that holds a packet identifier. Records are reused: of what is outside
// outbound only a Future keeps one, which may be another message's by then.
type record struct {
	home *arena // set when the record is made; Cancel reads it without a lock
	exchange
}

// recordQueue is where records wait. A record knows it by this alone.
type recordQueue interface {
	// cancel takes r out if it is still queued for f, and reports whether it did.
	cancel(r *record, f *Future) bool
}

// cancel takes the message of f back.
func (r *record) cancel(f *Future) bool { return r.home.queue.cancel(r, f) }

// exchange is what a record says of one message; the next use of the record
// clears it. All fields are guarded by outbound.mu.
type exchange struct {
	next, prev *record       // in the queue or in the window's order
	list       *recordList   // the one it is in, if any
	ready      chan struct{} // closed when a waiting publisher is accepted

	fut     *Future
	topic   string
	payload []byte
	props   *codec.Properties // wire form, nil for none
	ctl     *control          // for recControl

	expires     time.Duration // on the clock of outbound.uptime, when it must not be sent any more; 0 for never
	since       time.Time     // when it was accepted, coarse
	sentAt      time.Time     // when it was appended on the current link, coarse
	seq         uint64        // order of acceptance
	size        int           // topic, payload and properties
	cost        int           // what it counts for in the queue's limit
	place       int           // in outbound.expiring; 0 for none
	id          uint16
	state       recordState
	qos         QoS
	retain      bool
	byRef       bool // the payload is the caller's or a copy of ours: may go by reference
	sentBefore  bool // its PUBLISH was sent on more than one link
	misanswered bool // the server answered it by the wrong kind of packet on this link

	sentOnLink uint32 // number of the link it was appended to last, 0 for none
	quota      bool   // holds a unit of the current link's send quota
	inWrite    bool   // the writer still refers to its payload
	ended      bool   // acknowledged while inWrite: resolve when the writer lets go
	misanswers uint8  // links that ended with such an answer
	endErr     error  // how, for ended

	// With a session store; see journal.
	appKey   string     // the application's, "" for none
	key      uint64     // of its records
	staged   durability // what was handed to the committer
	saved    durability // what is durable
	onDisk   bool       // the payload is in the store alone
	reads    uint8      // how often it could not be fetched from there
	resident bool       // the payload counts towards what is kept in memory
	restored bool       // of an earlier process: perhaps no caller has its Future
	resent   bool       // PUBREL was sent again on this link
}

// sentByEarlierProcess stands in record.sentOnLink for a link of an earlier process.
const sentByEarlierProcess = 1<<32 - 1

// mayHaveArrived reports whether the server may have the message of r, whose
// exchange ended with err. It has not a message that it refused, unless it took
// an earlier copy.
func (r *record) mayHaveArrived(err error) bool {
	if e, ok := err.(*ReasonError); ok && e.Packet != codec.PUBCOMP {
		return r.sentBefore
	}
	return r.sentOnLink != 0
}

// unsaved reports whether the PUBREL of r must wait for the session store.
func (r *record) unsaved() bool { return r.staged == durReleased && r.saved < durReleased }

// recordList is a FIFO of records linked through themselves.
type recordList struct {
	head, tail *record
	n          int
}

func (l *recordList) pushBack(r *record) {
	r.list, r.prev, r.next = l, l.tail, nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
	l.n++
}

func (l *recordList) pushFront(r *record) {
	r.list, r.prev, r.next = l, nil, l.head
	if l.head == nil {
		l.tail = r
	} else {
		l.head.prev = r
	}
	l.head = r
	l.n++
}

func (l *recordList) remove(r *record) {
	if r.prev == nil {
		l.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.list, r.prev, r.next = nil, nil, nil
	l.n--
}
