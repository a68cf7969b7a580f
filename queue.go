package mqtt

import (
	"context"
	"slices"

	"github.com/millrace/mqtt/codec"
)

// QueuePolicy says what Publish does when the outbound queue is at its limit.
type QueuePolicy uint8

const (
	// QueueWait waits for room until the context of Publish ends. TryPublish
	// fails with [ErrQueueFull].
	QueueWait QueuePolicy = iota
	// QueueFail fails at once with [ErrQueueFull].
	QueueFail
	// QueueDropOldest drops the oldest messages not yet sent, whose Futures
	// fail with [ErrDropped].
	QueueDropOldest
	// QueueDropNewest drops the message being published; its Future fails with
	// [ErrDropped].
	QueueDropNewest
)

// String names the policy.
func (p QueuePolicy) String() string {
	return [...]string{"wait", "fail", "drop oldest", "drop newest"}[min(p, QueueDropNewest)]
}

// checkOutgoing checks m before any I/O, and copies what must be copied before
// the lock is taken.
func checkOutgoing(m *Message) (outgoing, error) {
	g := outgoing{topic: m.Topic, payload: m.Payload, qos: m.QoS, retain: m.Retain}
	if err := codec.CheckTopicName(m.Topic); err != nil {
		return g, invalid("topic", m.Topic, problemOf(err))
	}
	if m.QoS > 2 {
		return g, invalid("QoS", "", "must be 0, 1 or 2")
	}
	g.size = len(m.Topic) + len(m.Payload)
	if m.Properties != nil {
		if err := checkProperties(m.Properties); err != nil {
			return g, err
		}
		g.props = wireProperties(m.Properties)
		g.expiry = m.Properties.Expiry
		g.size += codec.PropertiesSize(g.props)
	}
	if g.size > maxPacket-16 {
		return g, &PacketTooLargeError{Size: g.size + 16, Max: maxPacket}
	}
	g.keep = m.ref&flagGivenAway != 0
	if !g.keep && (len(m.Payload) > refSize || m.QoS > 0 && len(m.Payload) > slabPayload) {
		g.payload, g.keep = slices.Clone(m.Payload), true
	}
	return g, nil
}

// maxPacket is the largest packet of the protocol (section 2.1.4), fixed header included.
const maxPacket = 268_435_455 + 5

// checkProperties checks what the user gave for the wire.
func checkProperties(p *Properties) error {
	if err := codec.CheckUTF8(p.ContentType); err != nil {
		return invalid("content type", p.ContentType, problemOf(err))
	}
	if p.ResponseTopic != "" {
		if err := codec.CheckTopicName(p.ResponseTopic); err != nil {
			return invalid("response topic", p.ResponseTopic, problemOf(err))
		}
	}
	if len(p.CorrelationData) > 65535 {
		return invalid("correlation data", "", "longer than 65,535 bytes")
	}
	if p.Expiry < 0 {
		return invalid("message expiry", p.Expiry.String(), "is negative")
	}
	return checkUser(p.User)
}

func checkUser(user []UserProperty) error {
	for _, u := range user {
		if err := codec.CheckUTF8(u.Key); err != nil {
			return invalid("user property name", u.Key, problemOf(err))
		}
		if err := codec.CheckUTF8(u.Value); err != nil {
			return invalid("user property value", u.Value, problemOf(err))
		}
	}
	return nil
}

// enqueue accepts g into the queue, or makes it wait, or refuses it.
func (o *outbound) enqueue(g *outgoing, wait bool) (*record, error) {
	if g.size > o.cfg.bytes {
		return nil, &PacketTooLargeError{Size: g.size, Max: o.cfg.bytes}
	}
	if o.waiters.n > 0 || !o.fits(g.size) {
		switch {
		case o.cfg.policy == QueueDropOldest && o.makeRoom(g.size):
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
			return r, nil
		}
	}
	r := o.newRecord(g)
	o.accept(r)
	return r, nil
}

// accept puts r at the end of its queue and sends what can be sent.
func (o *outbound) accept(r *record) {
	o.seq++
	r.seq = o.seq
	o.accepted++
	o.bytes += r.size
	o.stats.published++
	if r.qos == 0 {
		o.q0.pushBack(r)
	} else {
		o.q12.pushBack(r)
	}
}

// makeRoom drops the oldest queued messages until size more bytes fit, and
// reports whether they do.
func (o *outbound) makeRoom(size int) bool {
	for !o.fits(size) {
		r := o.q0.head
		if h := o.q12.head; r == nil || h != nil && h.seq < r.seq {
			r = h
		}
		if r == nil {
			return false // all that is left is under way
		}
		o.stats.dropped++
		o.log(MessageDropped{Topic: r.topic, Err: ErrDropped, Total: o.stats.dropped})
		r.list.remove(r)
		o.finish(r, ErrDropped)
	}
	return true
}

// admitWaiters accepts waiting publishers in the order they came while there is room.
func (o *outbound) admitWaiters() {
	for r := o.waiters.head; r != nil && o.fits(r.size); r = o.waiters.head {
		o.waiters.remove(r)
		close(r.ready)
		r.ready = nil
		o.accept(r)
		o.nudge() // the goroutine sends it
	}
}

// await waits until the waiting r is accepted, or takes it back when ctx ends first.
func (o *outbound) await(ctx context.Context, f *Future, r *record, ready chan struct{}) {
	select {
	case <-ready:
		return
	case <-ctx.Done():
	}
	o.mu.Lock()
	waiting := r.fut == f && r.list == &o.waiters
	var topic string
	if waiting {
		topic = r.topic
		o.waiters.remove(r)
		o.recycle(r)
		o.admitWaiters() // a smaller one behind it may fit
	}
	o.unlock()
	if waiting {
		f.resolve(&PublishError{Topic: topic, Err: context.Cause(ctx)})
	}
}

// cancel takes the message of f out of the queue, if it is still there.
func (o *outbound) cancel(f *Future) bool {
	o.mu.Lock()
	defer o.unlock()
	r := f.rec
	if r.fut != f || r.list != &o.q0 && r.list != &o.q12 {
		return false
	}
	r.list.remove(r)
	o.finish(r, ErrCanceled)
	o.admitWaiters()
	return true
}
