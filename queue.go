package mqtt

import (
	"context"
	"time"

	"github.com/millrace/mqtt/codec"
)

// enqueue accepts g into the queue, or makes it wait, or refuses it.
func (o *outbound) enqueue(g *outgoing, wait bool) (*record, error) {
	if g.cost > o.cfg.bytes {
		return nil, &PacketTooLargeError{Size: g.cost, Max: o.cfg.bytes}
	}
	if o.waiters.n > 0 || !o.fits(g.cost) {
		switch {
		case o.cfg.policy == QueueDropOldest && o.makeRoom(g.cost):
		case o.cfg.policy == QueueDropOldest, o.cfg.policy == QueueDropNewest:
			o.stats.dropped++
			o.log(MessageDropped{Topic: g.topic, Err: ErrDropped, Total: o.stats.dropped})
			return nil, ErrDropped
		case o.cfg.policy == QueueFail || !wait:
			return nil, ErrQueueFull
		default:
			r := o.newRecord(g)
			r.ready = make(chan struct{})
			o.waiters.pushBack(r)
			o.watchExpiry(r)
			return r, nil
		}
	}
	r := o.newRecord(g)
	o.accept(r)
	return r, nil
}

// accept puts r at the end of its queue.
func (o *outbound) accept(r *record) {
	o.seq++
	r.seq = o.seq
	o.accepted++
	o.bytes += r.cost
	o.stats.published++
	o.watchExpiry(r)
	if r.qos == 0 {
		o.q0.pushBack(r)
		return
	}
	o.q12.pushBack(r)
	if o.keep != nil {
		o.keepMessage(r)
		o.numberAhead() // message and identifier in one batch
	}
}

// makeRoom drops the oldest queued messages until size more bytes fit, or none
// when that cannot be, and reports whether they fit.
func (o *outbound) makeRoom(size int) bool {
	if !o.canMakeRoom(size) {
		return false
	}
	for r := range o.unsent {
		if o.fits(size) {
			break
		}
		o.stats.dropped++
		o.log(MessageDropped{Topic: r.topic, Err: ErrDropped, Total: o.stats.dropped})
		o.unqueue(r)
		o.finish(r, ErrDropped)
	}
	return true
}

// canMakeRoom reports whether dropping makes size more bytes fit; otherwise
// what is queued would be dropped in vain.
func (o *outbound) canMakeRoom(size int) bool {
	n, bytes, most := o.accepted, o.bytes, o.cfg.bytes-size
	for r := range o.unsent {
		if n < o.cfg.messages && bytes <= most {
			return true
		}
		n--
		bytes -= r.cost
	}
	return n < o.cfg.messages && bytes <= most
}

// unsent yields the queued messages that were never sent, oldest first. What is
// published anew after a lost session stands before them and is none of them.
// The one yielded may be taken out.
func (o *outbound) unsent(yield func(*record) bool) {
	a, b := o.q0.head, o.q12.head
	if o.numbered.head != nil {
		b = o.numbered.head
	}
	for b != nil && b.wire != 0 {
		b = o.behind(b)
	}
	for a != nil || b != nil {
		r := a
		if a == nil || b != nil && b.seq < a.seq {
			r, b = b, o.behind(b)
		} else {
			a = a.next
		}
		if !yield(r) {
			return
		}
	}
}

// behind returns what stands behind r in numbered or q12, nil for nothing.
func (o *outbound) behind(r *record) *record {
	if r.next == nil && r.list == &o.numbered {
		return o.q12.head
	}
	return r.next
}

// due returns the QoS 1 or 2 message to send next, nil when there is none or it
// is not ready: with a session store it and its packet identifier must be durable.
func (o *outbound) due() *record {
	if o.keep == nil {
		return o.q12.head
	}
	o.numberAhead()
	if r := o.numbered.head; r != nil && r.saved >= durSent && !r.onDisk {
		return r
	}
	return nil
}

// numberAhead gives packet identifiers to the first messages of the queue, about
// a window ahead, so that many are made durable together.
func (o *outbound) numberAhead() {
	if o.link == nil {
		return
	}
	for r := o.q12.head; r != nil && o.win.freeID(); r = o.q12.head {
		if n := o.numbered.n; n > 0 && (n >= max(o.win.limit, numberedMin) || o.ahead+r.size > loadBytes) {
			return
		}
		o.leave(r)
		o.numbered.pushBack(r)
		o.ahead += r.size
		o.win.number(r)
		o.keepExchange(r, exchangeSent)
		if r.onDisk {
			o.fetch(r)
		}
	}
}

// numberedMin is how many messages may have a packet identifier ahead of a
// window that is smaller.
const numberedMin = 256

// leave takes r out of the queue, to be sent; a packet identifier stays with it.
func (o *outbound) leave(r *record) {
	if r.resident {
		r.resident = false
		o.keep.resident -= len(r.payload)
	}
	if r.list == &o.numbered {
		o.ahead -= r.size
	}
	r.list.remove(r)
}

// unqueue takes r out of the queue for good.
func (o *outbound) unqueue(r *record) {
	if r.list == &o.numbered {
		o.win.ids.Clear(r.id)
		r.id = 0
	}
	o.leave(r)
}

// unnumber takes the packet identifiers back from what was not sent: they belong
// to a session that the server has lost.
func (o *outbound) unnumber() {
	for r := o.numbered.tail; r != nil; r = o.numbered.tail {
		o.unqueue(r)
		o.unkeepExchange(r)
		o.q12.pushFront(r)
	}
}

// admitWaiters accepts waiting publishers in the order they came while there is room.
func (o *outbound) admitWaiters() {
	for r := o.waiters.head; r != nil && o.fits(r.cost); r = o.waiters.head {
		o.waiters.remove(r)
		close(r.ready)
		r.ready = nil
		o.accept(r)
		o.nudge() // the goroutine sends it
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
		o.unkey(r)
		o.recycle(r)
		o.admitWaiters() // a smaller one behind it may fit
	}
	o.unlock()
	if waiting {
		f.resolve(&PublishError{Topic: topic, Err: context.Cause(ctx)})
	}
}

// cancel takes the message of f out of the queue, if r is still that message, is
// still queued and was never sent.
func (o *outbound) cancel(r *record, f *Future) bool {
	o.mu.Lock()
	defer o.unlock()
	if r.fut != f || r.list != &o.q0 && r.list != &o.q12 && r.list != &o.numbered || r.wire != 0 {
		return false
	}
	o.passOver(r)
	o.finish(r, ErrCanceled)
	o.admitWaiters()
	return true
}

// newRecord makes the record of g, with a Future and a payload of its own.
func (o *outbound) newRecord(g *outgoing) *record {
	r := o.arena.record()
	r.exchange = exchange{
		fut: o.arena.future(), topic: g.topic, payload: g.payload, props: g.props,
		qos: g.qos, retain: g.retain, keep: g.keep, size: g.size, cost: g.cost,
		seq: o.seq, since: o.tick, appKey: g.key,
	}
	if g.key != "" {
		o.key(r)
	}
	if !g.keep {
		r.payload = o.arena.payload(g.payload)
	}
	if g.expiry > 0 {
		r.expires = o.uptime() + g.expiry
	}
	r.fut.message = r
	return r
}

// recycle lets go of r.
func (o *outbound) recycle(r *record) {
	o.expiring.remove(r)
	o.arena.recycle(r)
}

// watchExpiry has r, which waits and was never sent, end when it expires. o.mu is held.
func (o *outbound) watchExpiry(r *record) {
	if r.expires == 0 || r.wire != 0 {
		return
	}
	o.expiring.add(r)
	if len(o.expiring) == 1 {
		o.nudge() // the goroutine starts its timer
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
		o.expire(o.expiring[0])
	}
	o.admitWaiters()
	if o.keep != nil && len(o.expiring) > 0 {
		o.followWallClock()
	}
	return false
}

// expire ends r, which waits.
func (o *outbound) expire(r *record) {
	if r.list == &o.waiters {
		o.refuseWaiter(r, ErrExpired)
		return
	}
	o.passOver(r)
	o.finish(r, ErrExpired)
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

// expired reports whether r must not be sent any more. Expiry is for what was
// never sent; the server may hold an earlier copy of the rest.
func (o *outbound) expired(r *record) bool {
	return r.expires != 0 && r.wire == 0 && o.uptime() >= r.expires
}

// aged returns the properties of r with the expiry interval reduced by the time
// it waited here, never below 1 (section 3.3.2.3.3) nor above what it was.
func (o *outbound) aged(r *record) *codec.Properties {
	if r.expires == 0 || r.props == nil {
		return r.props
	}
	p := *r.props
	left := wholeSeconds(r.expires - o.uptime())
	p.MessageExpiry = max(1, min(left, r.props.MessageExpiry))
	return &p
}

// tellTimeToLive tells, once in the life of the Conn, that the server is not told
// of expiry on 3.x: it counts until the message is sent. o.mu is held.
func (o *outbound) tellTimeToLive(v Version, p *codec.Properties) {
	if v == V5 || p == nil || o.toldTimeToLive {
		return
	}
	o.toldTimeToLive = true
	o.log(Downgraded{What: "message expiry", From: V5.String(), To: v.String(), Temporary: true})
}

// passOver takes r, which is to end unsent, out of the queue.
func (o *outbound) passOver(r *record) {
	if r.list == &o.numbered {
		o.keep.gaps = append(o.keep.gaps, gap{r.seq, o.keep.no})
	}
	o.unqueue(r)
}

// followWallClock stores the clocks anew when the wall clock was set: what the next
// process finds must not count that as time that passed. o.mu is held.
func (o *outbound) followWallClock() {
	if k := o.keep; !k.closed && k.clock.wasSet() {
		k.keepClock()
		o.commitSoon()
	}
}

// fail0 fails the QoS 0 messages that wait, which by default need a link.
func (o *outbound) fail0(err error) {
	for r := o.q0.head; r != nil; r = o.q0.head {
		o.q0.remove(r)
		o.finish(r, err)
	}
	for r := o.waiters.head; r != nil; {
		next := r.next
		if r.qos == 0 {
			o.refuseWaiter(r, err)
		}
		r = next
	}
}

// refuseWaiter fails a publisher that waits for a place in the queue.
func (o *outbound) refuseWaiter(r *record, err error) {
	o.waiters.remove(r)
	close(r.ready)
	r.ready = nil
	o.accepted++ // what finish takes back
	o.bytes += r.cost
	o.finish(r, err)
}
