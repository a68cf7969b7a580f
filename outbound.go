package mqtt

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
)

// outbound is everything on its way to the server: the queue, the window, and
// the buffer of the current link's writer. One short lock guards it; nothing
// that can block happens under it.
//
// Publishers append under the lock. The goroutine in resolve.go is the only one
// that resolves QoS 1 and 2 Futures; QoS 0 Futures are resolved by the writer
// of the link they were handed to.
type outbound struct {
	cfg   queueConfig
	log   func(Event) // never blocks
	kick  chan struct{}
	ended chan struct{} // closed when the goroutine has resolved everything

	uptime func() time.Duration // see clock

	mu      sync.Mutex
	win     window
	q0, q12 recordList // accepted, not encoded; a full window never holds QoS 0
	// numbered stands before q12 when there is a session store: these have their
	// packet identifiers already, which must be durable before they are encoded.
	numbered recordList
	waiters  recordList // not accepted yet, first come first served
	ending   recordList // acknowledged, while the writer still reads their payload
	link     *sender    // live: its session state is settled; nil while offline
	closed   error      // why publishes are refused; nil while they are not
	final    bool       // nothing can come any more: the goroutine may end
	gaveUp   bool       // the end of the Conn failed messages that were accepted

	accepted int // unresolved messages
	bytes    int // what they count for
	seq      uint64
	tick     time.Time // coarse clock of the records

	expiring       expiries // what waits and expires
	toldTimeToLive bool     // that expiry is not sent on 3.x

	inbox    []ackFact // from the reader of the link number inboxLink
	inboxNo  uint32
	resolved []resolution // to be carried out by the goroutine
	inHand   bool         // it has some of them in hand
	flushers []flusher
	ctlWait  []*control   // wait for a free packet identifier, or their turn on a link that probes
	accused  probedPacket // the packet that the last probing links died of
	deaths   uint8        // how many of them in a row

	keep  *keeper            // the session store; nil when there is none
	keyed map[string]*record // by the application's key
	ahead int                // bytes of payload in numbered

	arena arena

	stats outStats
}

// flusher waits until everything accepted up to seq is resolved.
type flusher struct {
	seq  uint64
	done chan struct{}
}

func newOutbound(cfg queueConfig, log func(Event)) *outbound {
	o := &outbound{
		cfg: cfg, log: log,
		kick:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		tick:  time.Now(),
		win:   window{maxID: maxPacketID},

		uptime: systemClock.uptime,
	}
	o.arena.queue = o
	return o
}

// publish accepts m, or returns a Future that says why not. Without wait it
// fails instead of waiting for a place in the queue.
func (o *outbound) publish(ctx context.Context, m *Message, wait bool) *Future {
	g, err := checkOutgoing(m)
	if err != nil {
		return failed(m.Topic, err)
	}
	if ctx.Err() != nil {
		return failed(m.Topic, context.Cause(ctx))
	}
	o.price(&g)
	f, waits, err := o.submit(&g, wait)
	if err != nil {
		return failed(m.Topic, err)
	}
	if waits.ready != nil {
		o.await(ctx, f, waits)
	}
	return f
}

// waiter is a publisher that waits for a place in the queue.
type waiter struct {
	rec   *record
	ready chan struct{} // closed when it has one; nil when there is no wait
}

// submit sends g, queues it, or makes it wait for a place in the queue.
func (o *outbound) submit(g *outgoing, wait bool) (*Future, waiter, error) {
	o.mu.Lock()
	defer o.unlock()
	if err := o.refusal(g); err != nil {
		return nil, waiter{}, err
	}
	if o.link == nil || o.link.idle {
		o.tick = time.Now() // no writer keeps it going
	}
	if o.link != nil && o.fast(g) {
		return o.send(g), waiter{}, nil
	}
	r, err := o.enqueue(g, wait)
	if err != nil {
		return nil, waiter{}, err
	}
	return r.fut, waiter{r, r.ready}, nil
}

// refusal returns why g cannot be accepted, or nil.
func (o *outbound) refusal(g *outgoing) error {
	l := o.link
	switch {
	case o.closed != nil:
		return o.closed
	case g.key != "" && o.keyed[g.key] != nil:
		return ErrKeyInUse
	case (l == nil || l.closing) && g.qos == 0 && !o.cfg.keepQoS0:
		return ErrNotConnected
	case l != nil:
		return l.agreed.carries(g)
	}
	return nil
}

// fast reports whether g may go straight to the writer's buffer: nothing of its
// kind waits before it, and there is room for it.
func (o *outbound) fast(g *outgoing) bool {
	if o.link.closing || o.waiters.n > 0 || !o.fits(g.cost) {
		return false
	}
	if g.qos == 0 {
		// What may have to be dropped for a newer message must not be encoded.
		return o.q0.n == 0 && !o.win.hold && (o.cfg.policy != QueueDropOldest || !o.link.out.full(bufferMark))
	}
	return o.keep == nil && !o.link.out.full(windowMark) && o.q12.n == 0 && o.win.canAdmit()
}

func (o *outbound) fits(cost int) bool {
	return o.accepted < o.cfg.messages && cost <= o.cfg.bytes-o.bytes
}

// price makes g count for what it takes in the session store, if there is one.
func (o *outbound) price(g *outgoing) {
	if o.keep != nil && g.qos > 0 {
		if g.given {
			// A commit may read it beyond the end of its Future.
			g.payload, g.given = slices.Clone(g.payload), false
		}
		m := storedMessage{key: g.key, topic: g.topic, payload: g.payload, props: g.props, qos: g.qos}
		g.cost = m.size()
	}
}

// send appends g to the writer's buffer.
func (o *outbound) send(g *outgoing) *Future {
	o.seq++
	o.accepted++
	o.bytes += g.cost
	o.stats.published++
	if g.qos == 0 {
		return o.send0(g)
	}
	r := o.newRecord(g)
	o.win.admit(r)
	o.encode(r, false)
	f := r.fut
	f.stage, f.id = StageSent, r.id // nobody else has it yet
	return f
}

// send0 appends a QoS 0 message, whose Future it shares with the others that
// will be written together with it.
func (o *outbound) send0(g *outgoing) *Future {
	b := o.link.room()
	p := codec.Publish{Retain: g.retain, Topic: g.topic, Payload: g.payload, Props: g.props}
	b.publish(o.link.version, &p, g.keep)
	if g.props != nil {
		o.tellTimeToLive(o.link.version, g.props)
	}
	b.n0++
	b.size0 += g.cost
	if b.first0 == 0 {
		b.first0 = o.seq
	}
	if b.fut == nil {
		b.fut = o.arena.future()
		b.fut.stage = StageSent
	}
	o.link.wakeIdleLocked()
	return b.fut
}

// admit moves r, which is in no list, into the window and the writer's buffer.
func (o *outbound) admit(r *record) {
	o.expiring.remove(r)
	o.win.admit(r)
	o.encode(r, false)
	r.fut.advance(StageSent, r.id)
}

// encode appends the PUBLISH of r.
func (o *outbound) encode(r *record, dup bool) {
	l := o.link
	p := codec.Publish{Dup: dup, QoS: byte(r.qos), Retain: r.retain, PacketID: r.id,
		Topic: r.topic, Payload: r.payload, Props: o.aged(r)}
	l.out.publish(l.version, &p, r.keep)
	if r.props != nil {
		o.tellTimeToLive(l.version, r.props)
	}
	r.sentAt = o.tick
	if l.probe {
		l.lastSent = r.sentAt
	}
	if r.keep && len(r.payload) > refSize && !r.held {
		r.held = true
		l.out.held = append(l.out.held, r)
	}
	l.wakeIdleLocked()
}

// pump sends what waits, as far as window and buffer allow: first what is to be
// sent again, then the queue.
func (o *outbound) pump() {
	l := o.link
	if l == nil || l.closing {
		o.admitWaiters()
		return
	}
	if l.probe {
		o.tick = time.Now()
	}
	o.waitingControls()
	for !l.out.full(windowMark) {
		r := o.win.nextResend()
		if r == nil {
			break
		}
		o.resend(r)
	}
	if l.probe && !o.win.hold && o.probePassedLocked() {
		l.probe, l.silent = false, false
		o.win.widen(l.window)
	}
	for len(l.more) == 0 && !l.out.full(bufferMark) && o.q0.n > 0 && !o.win.hold {
		o.send0Queued(o.q0.head)
	}
	for r := o.due(); r != nil && !l.out.full(windowMark) && (o.win.canAdmit() || r.id != 0 && o.win.canSend()); r = o.due() {
		if err := o.unfit(r); err != nil {
			o.passOver(r)
			o.finish(r, err)
			continue
		}
		if o.keep.behindGap(r) {
			break
		}
		o.leave(r)
		o.admit(r)
	}
	o.admitWaiters()
}

// resend sends the PUBLISH or PUBREL of r once more, on a new link.
func (o *outbound) resend(r *record) {
	o.stats.resent++
	if r.state == recReleased {
		o.pubrel(r)
		return
	}
	if err := o.link.agreed.carriesRecord(r); err != nil {
		// The server may hold a part of the exchange, so its identifier stays taken.
		o.win.setAside(r)
		o.settle(r, err)
		return
	}
	o.encode(r, true)
	r.fut.advance(StageSent, r.id)
}

// pubrel appends the PUBREL of r.
func (o *outbound) pubrel(r *record) {
	r.sentAt = o.tick
	var packet [8]byte
	o.owe(o.link, codec.AppendAck(packet[:0], o.link.version, codec.PUBREL, r.id, codec.Success, nil))
}

// send0Queued sends a QoS 0 message that waited in the queue.
func (o *outbound) send0Queued(r *record) {
	o.q0.remove(r)
	if err := o.unfit(r); err != nil {
		o.finish(r, err)
		return
	}
	b := o.link.out
	p := codec.Publish{Retain: r.retain, Topic: r.topic, Payload: r.payload, Props: o.aged(r)}
	b.publish(o.link.version, &p, r.keep)
	o.tellTimeToLive(o.link.version, r.props)
	b.n0++
	b.size0 += r.cost
	if b.first0 == 0 {
		b.first0 = r.seq
	}
	r.fut.advance(StageSent, 0)
	o.unkey(r)
	b.futs = append(b.futs, r.fut)
	o.recycle(r) // the Future and the bytes are the buffer's now
	o.link.wakeIdleLocked()
}

// unfit returns why the queued r must not be sent on this link, or nil.
func (o *outbound) unfit(r *record) error {
	if o.expired(r) {
		return ErrExpired
	}
	return o.link.agreed.carriesRecord(r)
}

// finish ends r, which is in no list and not in the window: its Future is
// resolved by the goroutine, its place in the queue is free.
func (o *outbound) finish(r *record, err error) {
	o.settle(r, err)
	if !r.held {
		o.recycle(r)
	}
}

// settle hands the Future of r to the goroutine and frees its place. One that
// fails is held until the session store has let go of the message.
func (o *outbound) settle(r *record, err error) {
	o.expiring.remove(r)
	if r.fut == nil {
		return
	}
	end := resolution{fut: r.fut}
	hold := err != nil && o.keep != nil && (r.staged > durNone || r.ended && o.keep.running)
	if err != nil {
		kept := r.saved > durNone && r.staged == durNone
		if r.restored && !kept {
			o.stats.dropped++
			o.log(MessageDropped{Topic: r.topic, Key: r.appKey, Err: err, Total: o.stats.dropped})
		}
		end.err = &PublishError{Topic: r.topic, MayHaveArrived: r.mayHaveArrived(err), Kept: kept, Err: err}
	}
	o.accepted--
	o.bytes -= r.cost
	o.unkey(r)
	if hold {
		o.keep.holdEnd(end, r.key)
	} else {
		o.resolved = append(o.resolved, end)
	}
	o.unkeep(r)
	r.fut, r.payload, r.props = nil, nil, nil
}

// key makes r the message that the application calls by its key, until it ends.
func (o *outbound) key(r *record) {
	if o.keyed == nil {
		o.keyed = map[string]*record{}
	}
	o.keyed[r.appKey] = r
}

func (o *outbound) unkey(r *record) {
	if r.appKey != "" {
		delete(o.keyed, r.appKey)
	}
}

// lookup returns the Future of the message with the application's key.
func (o *outbound) lookup(key string) *Future {
	o.mu.Lock()
	defer o.unlock()
	if r := o.keyed[key]; r != nil {
		return r.fut
	}
	return nil
}

// unlock releases the lock, and wakes the goroutine when there is something to
// resolve.
func (o *outbound) unlock() {
	if len(o.resolved) > 0 {
		o.nudge()
	}
	o.mu.Unlock()
}

// unfinished reports whether anything accepted is not resolved yet, or was
// resolved by nothing but the end of the Conn.
func (o *outbound) unfinished() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accepted > 0 || o.gaveUp
}

// nudge wakes the goroutine.
func (o *outbound) nudge() {
	select {
	case o.kick <- struct{}{}:
	default:
	}
}

// append adds a packet that the protocol owes (ack, ping, control) to the
// buffer of l, or reports that it cannot: l is not the current link any more, or
// its DISCONNECT is in the buffer [MQTT-3.14.4-1]. The caller holds the lock.
func (o *outbound) append(l *sender, add func([]byte) []byte) bool {
	if o.link != l || l.closing {
		return false
	}
	l.out.buf = add(l.out.buf)
	l.wakeIdleLocked()
	return true
}
