package mqtt

import (
	"context"
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file is the queue: messages that are accepted and wait to be sent, messages that
// wait for a place in it, and those that leave it unsent: dropped, canceled or expired.

// enqueueLocked accepts g into the queue, or makes it wait, or refuses it.
func (o *outbound) enqueueLocked(g *outgoing, wait bool) (*record, error) {
	if g.cost > o.cfg.bytes {
		return nil, &PacketTooLargeError{Size: g.cost, Max: o.cfg.bytes}
	}
	if o.waiters.n > 0 || !o.fitsLocked(g.cost) {
		switch {
		case o.cfg.policy == QueueDropOldest && o.makeRoomLocked(g.cost):
		case o.cfg.policy == QueueDropOldest, o.cfg.policy == QueueDropNewest:
			o.stats.dropped++
			o.log(MessageDropped{Topic: g.topic, Err: ErrDropped, Total: o.stats.dropped})
			return nil, ErrDropped
		case o.cfg.policy == QueueFail || !wait:
			return nil, ErrQueueFull
		default:
			r := o.newRecordLocked(g)
			r.ready = make(chan struct{})
			o.waiters.pushBack(r)
			o.watchExpiryLocked(r)
			return r, nil
		}
	}
	r := o.newRecordLocked(g)
	o.acceptLocked(r)
	return r, nil
}

// makeRoomLocked drops the oldest queued messages until size more bytes fit, or none
// when that cannot be, and reports whether they fit.
func (o *outbound) makeRoomLocked(size int) bool {
	if !o.canMakeRoomLocked(size) {
		return false
	}
	for r := range o.unsentLocked {
		if o.fitsLocked(size) {
			break
		}
		o.stats.dropped++
		o.log(MessageDropped{Topic: r.topic, Err: ErrDropped, Total: o.stats.dropped})
		o.unqueueLocked(r)
		o.finishLocked(r, ErrDropped)
	}
	return true
}

// canMakeRoomLocked reports whether dropping makes size more bytes fit; otherwise
// what is queued would be dropped in vain.
func (o *outbound) canMakeRoomLocked(size int) bool {
	n, bytes, most := o.accepted, o.bytes, o.cfg.bytes-size
	for r := range o.unsentLocked {
		if n < o.cfg.messages && bytes <= most {
			return true
		}
		n--
		bytes -= r.cost
	}
	return n < o.cfg.messages && bytes <= most
}

// unsentLocked yields the queued messages that were never sent, oldest first. Messages
// published anew after a lost session stand before them and are not among them.
// The one yielded may be taken out.
func (o *outbound) unsentLocked(yield func(*record) bool) {
	a, b := o.q0.head, o.q12.head
	if o.withID.head != nil {
		b = o.withID.head
	}
	for b != nil && b.sentOnLink != 0 {
		b = o.behindLocked(b)
	}
	for a != nil || b != nil {
		r := a
		if a == nil || b != nil && b.seq < a.seq {
			r, b = b, o.behindLocked(b)
		} else {
			a = a.next
		}
		if !yield(r) {
			return
		}
	}
}

// behindLocked returns what stands behind r in withID or q12, nil for nothing.
func (o *outbound) behindLocked(r *record) *record {
	if r.next == nil && r.list == &o.withID {
		return o.q12.head
	}
	return r.next
}

// newRecordLocked makes the record of g, with a Future and a payload of its own.
func (o *outbound) newRecordLocked(g *outgoing) *record {
	r := o.arena.record()
	r.exchange = exchange{
		fut: o.arena.future(), topic: g.topic, payload: g.payload, props: g.props,
		qos: g.qos, retain: g.retain, byRef: g.byRef, size: g.size, cost: g.cost,
		seq: o.seq, since: o.now, appKey: g.key,
	}
	if g.key != "" {
		o.keyLocked(r)
	}
	if !g.byRef {
		r.payload = o.arena.payload(g.payload)
	}
	if g.expiry > 0 {
		r.expires = o.uptime() + g.expiry
	}
	r.fut.message = r
	return r
}

// acceptLocked puts r at the end of its queue.
func (o *outbound) acceptLocked(r *record) {
	o.seq++
	r.seq = o.seq
	o.accepted++
	o.bytes += r.cost
	o.stats.published++
	o.watchExpiryLocked(r)
	if r.qos == 0 {
		o.q0.pushBack(r)
		return
	}
	o.q12.pushBack(r)
	if o.journal != nil {
		o.recordMessageLocked(r)
		o.assignIDsAheadLocked() // message and identifier in one batch
	}
}

// await waits until w is accepted, or takes it back when ctx ends first.
func (o *outbound) await(ctx context.Context, f *Future, w waiter) {
	select {
	case <-w.ready:
		return
	case <-ctx.Done():
	}
	o.mu.Lock()
	r := w.rec
	waiting := r.fut == f && r.list == &o.waiters
	var topic string
	if waiting {
		topic = r.topic
		o.waiters.remove(r)
		o.unkeyLocked(r)
		o.recycleLocked(r)
		o.admitWaitersLocked() // a smaller one behind it may fit
	}
	o.unlock()
	if waiting {
		f.resolve(&PublishError{Topic: topic, Err: context.Cause(ctx)})
	}
}

// lineFullLocked reports whether QoS 0 is published faster than the line takes it, so that
// publishers have to wait: what is encoded and not written comes to four buffers.
func (o *outbound) lineFullLocked() bool {
	l := o.link
	return l != nil && len(l.more) >= lineBuffers-1 && l.last().full(bufferMark) &&
		!l.closing && o.closed == nil && o.cfg.policy == QueueWait
}

// lineBusyLocked reports whether publishers that wait for a full line have to wait on: woken
// for each buffer they would only change places with the writer.
func (o *outbound) lineBusyLocked() bool {
	l := o.link
	return l != nil && len(l.more) > 0 && !l.closing && o.closed == nil && o.cfg.policy == QueueWait
}

// lineBuffers is how many full buffers may stand before the writer: 512 KiB.
const lineBuffers = 4

// roomLocked returns a channel that is closed when the line is full no longer.
func (o *outbound) roomLocked() chan struct{} {
	if o.lineRoom == nil {
		o.lineRoom = make(chan struct{})
	}
	return o.lineRoom
}

// submitWithRoom submits g, of QoS 0, once there is room. The wait counts towards the
// expiry of the message.
func (o *outbound) submitWithRoom(ctx context.Context, g *outgoing, w waiter) (*Future, waiter, error) {
	began := o.uptime()
	var expired <-chan time.Time
	if g.expiry > 0 {
		t := time.NewTimer(g.expiry)
		defer t.Stop()
		expired = t.C
	}
	for {
		select {
		case <-w.ready:
		case <-expired:
			return nil, waiter{}, ErrExpired
		case <-ctx.Done():
			return nil, waiter{}, context.Cause(ctx)
		}
		left := *g
		if !left.age(o.uptime() - began) {
			return nil, waiter{}, ErrExpired
		}
		f, next, err := o.submit(&left, true)
		if f != nil || err != nil {
			return f, next, err
		}
		w = next
	}
}

// admitWaitersLocked accepts waiting publishers in the order they came while there is room.
func (o *outbound) admitWaitersLocked() {
	for r := o.waiters.head; r != nil && o.fitsLocked(r.cost); r = o.waiters.head {
		o.waiters.remove(r)
		close(r.ready)
		r.ready = nil
		o.acceptLocked(r)
		o.wakeResolver() // the goroutine sends it
	}
}

// cancel takes the message of f out of the queue, if r is still that message, is
// still queued and was never sent.
func (o *outbound) cancel(r *record, f *Future) bool {
	o.mu.Lock()
	defer o.unlock()
	if r.fut != f || r.list != &o.q0 && r.list != &o.q12 && r.list != &o.withID || r.sentOnLink != 0 {
		return false
	}
	o.skipLocked(r)
	o.finishLocked(r, ErrCanceled)
	o.admitWaitersLocked()
	return true
}

// dueLocked returns the QoS 1 or 2 message to send next, nil when there is none or it
// is not ready: with a session store it and its packet identifier must be durable.
func (o *outbound) dueLocked() *record {
	if o.journal == nil {
		return o.q12.head
	}
	o.assignIDsAheadLocked()
	if r := o.withID.head; r != nil && r.saved >= durSent && !r.onDisk {
		return r
	}
	return nil
}

// assignIDsAheadLocked gives packet identifiers to the first messages of the queue, about
// a window ahead, so that many are made durable together.
func (o *outbound) assignIDsAheadLocked() {
	if o.link == nil {
		return
	}
	for r := o.q12.head; r != nil && o.win.freeID(); r = o.q12.head {
		if n := o.withID.n; n > 0 && (n >= max(o.win.limit, withIDMin) || o.ahead+r.size > loadBytes) {
			return
		}
		o.leaveLocked(r)
		o.withID.pushBack(r)
		o.ahead += r.size
		o.win.assignID(r)
		o.recordExchangeLocked(r, exchangeSent)
		if r.onDisk {
			o.fetchLocked(r)
		}
	}
}

// withIDMin is how many messages may have a packet identifier ahead of a
// window that is smaller.
const withIDMin = 256

// leaveLocked takes r out of the queue, to be sent; a packet identifier stays with it.
func (o *outbound) leaveLocked(r *record) {
	if r.resident {
		r.resident = false
		o.journal.resident -= len(r.payload)
	}
	if r.list == &o.withID {
		o.ahead -= r.size
	}
	r.list.remove(r)
}

// unqueueLocked takes r out of the queue for good.
func (o *outbound) unqueueLocked(r *record) {
	if r.list == &o.withID {
		o.win.ids.Clear(r.id)
		r.id = 0
	}
	o.leaveLocked(r)
}

// skipLocked takes r, which is to end unsent, out of the queue.
func (o *outbound) skipLocked(r *record) {
	if r.list == &o.withID {
		o.journal.tombstones = append(o.journal.tombstones, tombstone{r.seq, o.journal.no})
	}
	o.unqueueLocked(r)
}

// withdrawIDsLocked takes the packet identifiers back from what was not sent: they belong
// to a session that the server has lost.
func (o *outbound) withdrawIDsLocked() {
	for r := o.withID.tail; r != nil; r = o.withID.tail {
		o.unqueueLocked(r)
		o.deleteExchangeLocked(r)
		o.q12.pushFront(r)
	}
}

// fail0Locked fails the QoS 0 messages that wait, which by default need a link.
func (o *outbound) fail0Locked(err error) {
	for r := o.q0.head; r != nil; r = o.q0.head {
		o.q0.remove(r)
		o.finishLocked(r, err)
	}
	for r := o.waiters.head; r != nil; {
		next := r.next
		if r.qos == 0 {
			o.refuseWaiterLocked(r, err)
		}
		r = next
	}
}

// refuseWaiterLocked fails a publisher that waits for a place in the queue.
func (o *outbound) refuseWaiterLocked(r *record, err error) {
	o.waiters.remove(r)
	close(r.ready)
	r.ready = nil
	o.accepted++ // what finish takes back
	o.bytes += r.cost
	o.finishLocked(r, err)
}

// recycleLocked lets go of r.
func (o *outbound) recycleLocked(r *record) {
	o.expiring.remove(r)
	o.arena.recycle(r)
}

// watchExpiryLocked has r, which waits and was never sent, end when it expires.
func (o *outbound) watchExpiryLocked(r *record) {
	if r.expires == 0 || r.sentOnLink != 0 {
		return
	}
	o.expiring.add(r)
	if len(o.expiring) == 1 {
		o.wakeResolver() // the goroutine starts its timer
	}
}

// expireDue ends what has expired.
func (o *outbound) expireDue() {
	for o.expireSome() {
	}
}

// expireSome ends what has expired, and reports whether it left some of it, so that
// publishers get a turn at the lock.
func (o *outbound) expireSome() (more bool) {
	o.mu.Lock()
	defer o.unlock()
	if len(o.expiring) == 0 {
		return false
	}
	now := o.uptime()
	for n := 0; len(o.expiring) > 0 && o.expiring[0].expires <= now; n++ {
		if n == expiryBatch {
			return true
		}
		o.expireLocked(o.expiring[0])
	}
	o.admitWaitersLocked()
	if o.journal != nil && len(o.expiring) > 0 {
		o.followWallClockLocked()
	}
	return false
}

// expireLocked ends r, which waits.
func (o *outbound) expireLocked(r *record) {
	if r.list == &o.waiters {
		o.refuseWaiterLocked(r, ErrExpired)
		return
	}
	o.skipLocked(r)
	o.finishLocked(r, ErrExpired)
}

// followWallClockLocked stores the clocks anew when the wall clock was set: what the next
// process finds must not count that as time that passed.
func (o *outbound) followWallClockLocked() {
	if k := o.journal; !k.closed && k.clock.wasSet() {
		k.recordClockLocked()
		o.commitSoonLocked()
	}
}

// nextExpiry returns when to look for expired messages.
func (o *outbound) nextExpiry() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.expiring) == 0 {
		return expiryLook
	}
	left := o.expiring[0].expires - o.uptime()
	return min(max(left, time.Millisecond), expiryLook)
}

// expiredLocked reports whether r must not be sent any more. Expiry is for what was
// never sent; the server may hold an earlier copy of the rest.
func (o *outbound) expiredLocked(r *record) bool {
	return r.expires != 0 && r.sentOnLink == 0 && o.uptime() >= r.expires
}

// agedLocked returns the properties of r with the expiry interval reduced by the time
// it waited here, never below 1 (section 3.3.2.3.3) nor above what it was.
func (o *outbound) agedLocked(r *record) *codec.Properties {
	if r.expires == 0 || r.props == nil {
		return r.props
	}
	p := *r.props
	left := wholeSeconds(r.expires - o.uptime())
	p.MessageExpiry = max(1, min(left, r.props.MessageExpiry))
	return &p
}

// tellTimeToLiveLocked tells, once in the life of the Conn, that the server is not told
// of expiry on 3.x: it counts until the message is sent.
func (o *outbound) tellTimeToLiveLocked(v Version, p *codec.Properties) {
	if v == V5 || p == nil || o.toldTimeToLive {
		return
	}
	o.toldTimeToLive = true
	o.log(Downgraded{What: "message expiry", From: V5.String(), To: v.String(), Temporary: true})
}
