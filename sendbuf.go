package mqtt

import "github.com/millrace/mqtt/codec"

const (
	// bufferMark is where the writer's buffer counts as full for QoS 0: where
	// batching stops to pay. Acks, pings and control packets ignore it.
	bufferMark = 128 << 10
	// windowMark is the same for QoS 1 and 2, so that a flood of QoS 0 leaves
	// them room.
	windowMark = 2 * bufferMark
	// spareBuffers is how many buffers a link keeps for reuse.
	spareBuffers = 8
	// sendBufferKeep is the largest buffer that is kept for reuse.
	sendBufferKeep = 2 * bufferMark
)

// sendQueue is what one link's writer has still to write. Most of the time it is
// one buffer; QoS 0 messages that come faster than the writer writes stand
// encoded in further ones. Everything else goes into the first, ahead of them.
// It is guarded by outbound.mu.
type sendQueue struct {
	out    *sendBuffer   // written next
	more   []*sendBuffer // and then these; QoS 0 alone
	spares []*sendBuffer
}

// room returns the buffer that takes the next QoS 0 message.
func (q *sendQueue) room() *sendBuffer {
	b := q.last()
	if !b.full(bufferMark) {
		return b
	}
	if n := len(q.spares); n > 0 {
		b, q.spares = q.spares[n-1], q.spares[:n-1]
	} else {
		b = &sendBuffer{buf: make([]byte, 0, bufferMark+bufferMark/8)} // it will be full
	}
	q.more = append(q.more, b)
	return b
}

// last returns the buffer that is written last.
func (q *sendQueue) last() *sendBuffer {
	if n := len(q.more); n > 0 {
		return q.more[n-1]
	}
	return q.out
}

// next takes out the first buffer, with spare in exchange.
func (q *sendQueue) next(spare *sendBuffer) *sendBuffer {
	b := q.out
	if len(q.more) == 0 {
		q.out = spare
		return b
	}
	q.out = q.more[0]
	q.more[0] = nil
	q.more = q.more[1:]
	if len(q.spares) < spareBuffers {
		q.spares = append(q.spares, spare)
	}
	return b
}

func (q *sendQueue) empty() bool { return q.out.empty() && len(q.more) == 0 }

// sendBuffer collects what one link's writer sends next. While it collects it is
// guarded by outbound.mu; once swapped out it belongs to the writer.
type sendBuffer struct {
	buf  []byte
	refs []bufRef

	fut     *Future   // of the QoS 0 messages that came straight from a publisher
	futs    []*Future // of the QoS 0 messages that were queued before
	inWrite []*record // whose payloads refs points to
	first0  uint64    // acceptance number of the first QoS 0 message in it, 0 for none
	n0      int       // QoS 0 messages in it
	size0   int       // what they count for in the queue's limit
	ping    int       // where in buf its PINGREQ ends, 0 without one

	owed   int // bytes of acknowledgements in it
	beside int // bytes of the payloads in refs
}

// bufRef is a payload that belongs before buf[at].
type bufRef struct {
	at      int
	payload []byte
}

func (b *sendBuffer) empty() bool { return len(b.buf) == 0 }

// full reports whether b holds as much as mark.
func (b *sendBuffer) full(mark int) bool { return len(b.buf)+b.beside >= mark }

// publish appends p; a payload above refSize by reference when byRef says that
// it will not change until the writer is done with it.
func (b *sendBuffer) publish(v Version, p *codec.Publish, byRef bool) {
	if !byRef || len(p.Payload) <= refSize {
		b.buf = codec.AppendPublish(b.buf, v, p)
		return
	}
	b.buf = codec.AppendPublishHeader(b.buf, v, p)
	b.refs = append(b.refs, bufRef{len(b.buf), p.Payload})
	b.beside += len(p.Payload)
}

// resolve ends the QoS 0 Futures of b.
func (b *sendBuffer) resolve(err error) {
	if b.fut != nil {
		b.fut.resolve(err)
	}
	for _, f := range b.futs {
		f.resolve(err)
	}
}

// section appends to dst what is to be written of buf[from:to] and of the payloads
// that belong there, in order, no piece larger than most. Both are ends of packets.
func (b *sendBuffer) section(dst [][]byte, from, to, most int) [][]byte {
	for _, r := range b.refs {
		if from <= r.at && r.at <= to {
			dst = appendChunks(dst, b.buf[from:r.at], most)
			dst = appendChunks(dst, r.payload, most)
			from = r.at
		}
	}
	return appendChunks(dst, b.buf[from:to], most)
}

func appendChunks(dst [][]byte, p []byte, most int) [][]byte {
	for len(p) > most {
		dst = append(dst, p[:most])
		p = p[most:]
	}
	if len(p) > 0 {
		dst = append(dst, p)
	}
	return dst
}

// reset empties b for reuse and lets go of everything it referred to.
func (b *sendBuffer) reset() {
	clear(b.refs)
	clear(b.futs)
	clear(b.inWrite)
	buf := b.buf[:0]
	if cap(buf) > sendBufferKeep {
		buf = nil
	}
	*b = sendBuffer{buf: buf, refs: b.refs[:0], futs: b.futs[:0], inWrite: b.inWrite[:0]}
}
