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
//
// A message is in one list at a time. Which one follows from its state, and says which
// function may take it out:
//
//	state            list             taken out by
//	not accepted     waiters          admitWaitersLocked, await, refuseWaiterLocked
//	queued, QoS 0    q0               send0QueuedLocked, unqueueLocked, fail0Locked
//	queued           q12              assignIDsAheadLocked, leaveLocked, unqueueLocked
//	queued, with id  withID           leaveLocked, unqueueLocked, withdrawIDsLocked
//	sent             win.order        window: ack, finish, quarantine, forget
//	received         win.released     window: finish, quarantine, forget
//	quarantined      win.quarantined  window.forget
//	acknowledged     ending           takeBackPayloadsLocked, when the writer is done
//	                                  with its payload
//	ended            none             recycleLocked gives the record back to arena
//
// A control exchange is in no list: it waits in ctlWait, then holds a packet identifier.
type outbound struct {
	cfg   queueConfig
	log   func(Event) // never blocks
	wake  chan struct{}
	ended chan struct{} // closed when the goroutine has resolved everything

	uptime func() time.Duration // see clock

	mu      sync.Mutex
	win     window
	q0, q12 recordList // accepted, not encoded; a full window never holds QoS 0
	// withID stands before q12 when there is a session store: these have their
	// packet identifiers already, which must be durable before they are encoded.
	withID   recordList
	waiters  recordList    // not accepted yet, first come first served
	lineRoom chan struct{} // closed when the line is full no longer; nil when no publisher waits for that
	ending   recordList    // acknowledged, while the writer still reads their payload
	link     *sender       // the window was told of its session; nil while offline
	closed   error         // why publishes are refused; nil while they are not
	final    bool          // nothing can come any more: the goroutine may end
	gaveUp   bool          // the end of the Conn failed messages that were accepted

	accepted int // unresolved messages
	bytes    int // what they count for
	seq      uint64
	now      time.Time // coarse clock of the records

	expiring       expiries // what waits and expires
	toldTimeToLive bool     // that expiry is not sent on 3.x

	inbox    []ackFact // from the reader of the link number inboxNo
	inboxNo  uint32
	resolved []resolution // to be carried out by the goroutine
	inHand   bool         // the goroutine is carrying some out
	flushers []flusher
	ctlWait  []*control   // wait for a free packet identifier, or their turn on a link that probes
	accused  probedPacket // the packet that the last probing links died of
	deaths   uint8        // how many of them in a row

	journal *journal           // the session store; nil when there is none
	keyed   map[string]*record // by the application's key
	ahead   int                // bytes of payload in withID

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
		wake:  make(chan struct{}, 1),
		ended: make(chan struct{}),
		now:   time.Now(),
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
	if f == nil && err == nil {
		f, waits, err = o.submitWithRoom(ctx, &g, waits)
	}
	if err != nil {
		return failed(m.Topic, err)
	}
	if waits.ready != nil {
		o.await(ctx, f, waits)
	}
	return f
}

// waiter is a publisher that waits for a place in the queue, or at QoS 0 for room in the
// writer's buffers.
type waiter struct {
	rec   *record       // nil for room
	ready chan struct{} // closed when it has one, or may try again; nil when there is no wait
}

// price makes g count for what it takes in the session store, if there is one.
func (o *outbound) price(g *outgoing) {
	if o.journal != nil && g.qos > 0 {
		if g.given {
			// A commit may read it beyond the end of its Future.
			g.payload, g.given = slices.Clone(g.payload), false
		}
		m := storedMessage{key: g.key, topic: g.topic, payload: g.payload, props: g.props, qos: g.qos}
		g.cost = m.size()
	}
}

// submit sends g, queues it, or makes it wait for a place in the queue. It returns no Future
// when g has to wait for room.
func (o *outbound) submit(g *outgoing, wait bool) (*Future, waiter, error) {
	o.mu.Lock()
	defer o.unlock()
	if err := o.refusalLocked(g); err != nil {
		return nil, waiter{}, err
	}
	if g.qos == 0 && wait && o.lineFullLocked() {
		return nil, waiter{ready: o.roomLocked()}, nil
	}
	if o.link == nil || o.link.idle {
		o.now = time.Now() // no writer keeps it going
	}
	if o.link != nil && o.fastLocked(g) {
		return o.sendLocked(g), waiter{}, nil
	}
	r, err := o.enqueueLocked(g, wait)
	if err != nil {
		return nil, waiter{}, err
	}
	return r.fut, waiter{r, r.ready}, nil
}

// refusalLocked returns why g cannot be accepted, or nil.
func (o *outbound) refusalLocked(g *outgoing) error {
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

// fastLocked reports whether g may go straight to the writer's buffer: nothing of its
// kind waits before it, and there is room for it.
func (o *outbound) fastLocked(g *outgoing) bool {
	if o.link.closing || o.waiters.n > 0 || !o.fitsLocked(g.cost) {
		return false
	}
	if g.qos == 0 {
		// A message that may have to be dropped for a newer one must not be encoded.
		return o.q0.n == 0 && !o.win.hold && (o.cfg.policy != QueueDropOldest || !o.link.out.full(bufferMark))
	}
	return o.journal == nil && !o.link.out.full(windowMark) && o.q12.n == 0 && o.win.canAdmit()
}

func (o *outbound) fitsLocked(cost int) bool {
	return o.accepted < o.cfg.messages && cost <= o.cfg.bytes-o.bytes
}

// sendLocked appends g to the writer's buffer.
func (o *outbound) sendLocked(g *outgoing) *Future {
	o.seq++
	o.accepted++
	o.bytes += g.cost
	o.stats.published++
	if g.qos == 0 {
		return o.send0Locked(g)
	}
	r := o.newRecordLocked(g)
	o.win.admit(r)
	o.encodeLocked(r, false)
	f := r.fut
	f.stage, f.id = StageSent, r.id // no other goroutine has it yet
	return f
}

// send0Locked appends a QoS 0 message, whose Future it shares with the others that
// will be written together with it.
func (o *outbound) send0Locked(g *outgoing) *Future {
	b := o.link.room()
	p := codec.Publish{Retain: g.retain, Topic: g.topic, Payload: g.payload, Props: g.props}
	b.publish(o.link.version, &p, g.byRef)
	if g.props != nil {
		o.tellTimeToLiveLocked(o.link.version, g.props)
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

// encodeLocked appends the PUBLISH of r.
func (o *outbound) encodeLocked(r *record, dup bool) {
	l := o.link
	p := codec.Publish{Dup: dup, QoS: byte(r.qos), Retain: r.retain, PacketID: r.id,
		Topic: r.topic, Payload: r.payload, Props: o.agedLocked(r)}
	l.out.publish(l.version, &p, r.byRef)
	if r.props != nil {
		o.tellTimeToLiveLocked(l.version, r.props)
	}
	r.sentAt = o.now
	if l.probe {
		l.lastSent = r.sentAt
	}
	if r.byRef && len(r.payload) > refSize && !r.inWrite {
		r.inWrite = true
		l.out.inWrite = append(l.out.inWrite, r)
	}
	l.wakeIdleLocked()
}

// pumpLocked sends the messages that wait, as far as window and buffer allow: first those
// that are to be sent again, then the queue.
func (o *outbound) pumpLocked() {
	l := o.link
	if l == nil || l.closing {
		o.admitWaitersLocked()
		return
	}
	if l.probe {
		o.now = time.Now()
	}
	o.waitingControlsLocked()
	for !l.out.full(windowMark) {
		r := o.win.nextResend()
		if r == nil {
			break
		}
		o.resendLocked(r)
	}
	if l.probe && !o.win.hold && o.probePassedLocked() {
		l.probe, l.silent = false, false
		o.win.widen(l.window)
	}
	for len(l.more) == 0 && !l.out.full(bufferMark) && o.q0.n > 0 && !o.win.hold {
		o.send0QueuedLocked(o.q0.head)
	}
	for r := o.dueLocked(); r != nil && !l.out.full(windowMark) && (o.win.canAdmit() || r.id != 0 && o.win.canSend()); r = o.dueLocked() {
		if err := o.unfitLocked(r); err != nil {
			o.skipLocked(r)
			o.finishLocked(r, err)
			continue
		}
		if o.journal.blockedByTombstone(r) {
			break
		}
		o.leaveLocked(r)
		o.admitLocked(r)
	}
	o.admitWaitersLocked()
}

// resendLocked sends the PUBLISH or PUBREL of r once more, on a new link.
func (o *outbound) resendLocked(r *record) {
	o.stats.resent++
	if r.state == recReleased {
		o.pubrelLocked(r)
		return
	}
	if err := o.link.agreed.carriesRecord(r); err != nil {
		// The server may hold a part of the exchange, so its identifier stays taken.
		o.win.quarantine(r)
		o.resolveLocked(r, err)
		return
	}
	o.encodeLocked(r, true)
	r.fut.advance(StageSent, r.id)
}

// pubrelLocked appends the PUBREL of r.
func (o *outbound) pubrelLocked(r *record) {
	r.sentAt = o.now
	var packet [8]byte
	o.oweLocked(o.link, codec.AppendAck(packet[:0], o.link.version, codec.PUBREL, r.id, codec.Success, nil))
}

// send0QueuedLocked sends a QoS 0 message that waited in the queue.
func (o *outbound) send0QueuedLocked(r *record) {
	o.q0.remove(r)
	if err := o.unfitLocked(r); err != nil {
		o.finishLocked(r, err)
		return
	}
	b := o.link.out
	p := codec.Publish{Retain: r.retain, Topic: r.topic, Payload: r.payload, Props: o.agedLocked(r)}
	b.publish(o.link.version, &p, r.byRef)
	o.tellTimeToLiveLocked(o.link.version, r.props)
	b.n0++
	b.size0 += r.cost
	if b.first0 == 0 {
		b.first0 = r.seq
	}
	r.fut.advance(StageSent, 0)
	o.unkeyLocked(r)
	b.futs = append(b.futs, r.fut)
	o.recycleLocked(r) // the Future and the bytes are the buffer's now
	o.link.wakeIdleLocked()
}

// unfitLocked returns why the queued r must not be sent on this link, or nil.
func (o *outbound) unfitLocked(r *record) error {
	if o.expiredLocked(r) {
		return ErrExpired
	}
	return o.link.agreed.carriesRecord(r)
}

// admitLocked moves r, which is in no list, into the window and the writer's buffer.
func (o *outbound) admitLocked(r *record) {
	o.expiring.remove(r)
	o.win.admit(r)
	o.encodeLocked(r, false)
	r.fut.advance(StageSent, r.id)
}

// finishLocked ends r, which is in no list and not in the window: its Future is
// resolved by the goroutine, its place in the queue is free.
func (o *outbound) finishLocked(r *record, err error) {
	o.resolveLocked(r, err)
	if !r.inWrite {
		o.recycleLocked(r)
	}
}

// resolveLocked hands the Future of r to the goroutine and frees its place. One that
// fails waits until the message is deleted from the session store.
func (o *outbound) resolveLocked(r *record, err error) {
	o.expiring.remove(r)
	if r.fut == nil {
		return
	}
	end := resolution{fut: r.fut}
	hold := err != nil && o.journal != nil && (r.staged > durNone || r.ended && o.journal.running)
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
	o.unkeyLocked(r)
	if hold {
		o.journal.awaitDeleteLocked(end, r.key)
	} else {
		o.resolved = append(o.resolved, end)
	}
	o.deleteMessageLocked(r)
	r.fut, r.payload, r.props = nil, nil, nil
}

// keyLocked makes r the message that the application calls by its key, until it ends.
func (o *outbound) keyLocked(r *record) {
	if o.keyed == nil {
		o.keyed = map[string]*record{}
	}
	o.keyed[r.appKey] = r
}

func (o *outbound) unkeyLocked(r *record) {
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

// unlock releases the lock. It wakes the publishers that wait for room when there is some,
// and the goroutine when there is something to resolve.
func (o *outbound) unlock() {
	if o.lineRoom != nil && !o.lineBusyLocked() {
		close(o.lineRoom)
		o.lineRoom = nil
	}
	if len(o.resolved) > 0 {
		o.wakeResolver()
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

// wakeResolver wakes the goroutine.
func (o *outbound) wakeResolver() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// appendLocked adds a packet that the protocol owes (ack, ping, control) to the
// buffer of l, or reports that it cannot: l is not the current link any more, or
// its DISCONNECT is in the buffer [MQTT-3.14.4-1].
func (o *outbound) appendLocked(l *sender, add func([]byte) []byte) bool {
	if o.link != l || l.closing {
		return false
	}
	l.out.buf = add(l.out.buf)
	l.wakeIdleLocked()
	return true
}
