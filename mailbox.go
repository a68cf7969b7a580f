package mqtt

import (
	"bytes"
	"slices"
	"time"
)

// mailbox holds the messages of one subscription that were not handed over yet,
// in the order of arrival. QoS 0 messages stand in a ring of their own, so that
// the oldest of them can give way while QoS 1 and 2 are kept. It is guarded by
// the subscription's lock.
type mailbox struct {
	rings [2]mailRing // QoS 0; QoS 1 and 2
	seq   uint64
	front int64     // sequence numbers of messages put back, counting down
	born  time.Time // when the first message came
	bytes [2]int

	latest map[string]place // by topic, the newest message; nil until replace is called
}

// mail is a message and its place in the order; the zero mail is a hole, from which replace
// took a message.
type mail struct {
	msg Message
	seq int64         // not 0
	age time.Duration // of the mailbox when it came; -1 for one that was put back
}

// place is where a message stands: in which ring, and the how many-th that was put there.
type place struct {
	ring int
	no   int64
}

func (b *mailbox) len() int { return b.rings[0].len() + b.rings[1].len() }

// size is what the messages count for in bytes.
func (b *mailbox) size() int { return b.bytes[0] + b.bytes[1] }

// held returns how many messages of QoS 1 and 2 there are, and their size.
func (b *mailbox) held() (n, bytes int) { return b.rings[1].len(), b.bytes[1] }

// oldest returns how long the first message has waited.
func (b *mailbox) oldest(now time.Time) (age time.Duration) {
	for i := range b.rings {
		if r := &b.rings[i]; r.n > 0 && r.first().age >= 0 {
			age = max(age, now.Sub(b.born)-r.first().age)
		}
	}
	return age
}

func ringOf(m *Message) int {
	if m.QoS == 0 {
		return 0
	}
	return 1
}

// push puts m last.
func (b *mailbox) push(m *Message, now time.Time) {
	if b.seq == 0 {
		b.born = now
	}
	b.seq++
	i := ringOf(m)
	b.bytes[i] += mailSize(m)
	r := &b.rings[i]
	last := r.grow()
	last.msg, last.seq, last.age = *m, int64(b.seq), max(0, now.Sub(b.born))
	if b.latest == nil {
		last.msg.Payload = r.own(m.Payload)
	} else {
		last.msg.Payload = bytes.Clone(m.Payload) // messages do not leave in the order in which they came
	}
	if b.latest != nil {
		b.latest[m.Topic] = place{i, r.base + int64(r.n) - 1}
	}
}

// unpop puts m first again. A newer message of its topic stays the one that the next
// replaces.
func (b *mailbox) unpop(m Message) {
	b.front--
	i := ringOf(&m)
	b.bytes[i] += mailSize(&m)
	r := &b.rings[i]
	r.unpop(mail{msg: m, seq: b.front, age: -1})
	if b.latest == nil {
		return
	}
	if _, newer := b.latest[m.Topic]; !newer {
		b.latest[m.Topic] = place{i, r.base}
	}
}

// pop takes the first message; there must be one.
func (b *mailbox) pop() Message {
	r := &b.rings[0]
	if o := &b.rings[1]; r.n == 0 || o.n > 0 && o.first().seq < r.first().seq {
		r = o
	}
	return b.popFrom(r)
}

// popFrom takes the first message of r.
func (b *mailbox) popFrom(r *mailRing) Message {
	no := r.base
	m := r.pop()
	i := ringOf(&m)
	b.bytes[i] -= mailSize(&m)
	if b.latest != nil && b.latest[m.Topic] == (place{i, no}) {
		delete(b.latest, m.Topic)
	}
	if b.latest != nil && r.ring == nil {
		b.index() // a map keeps the memory of its largest size
	}
	return m
}

// drop0 takes the oldest QoS 0 message, if there is one.
func (b *mailbox) drop0() (Message, bool) {
	if b.rings[0].n == 0 {
		return Message{}, false
	}
	return b.popFrom(&b.rings[0]), true
}

// cutAll takes out every message that f picks, in the order of arrival.
func (b *mailbox) cutAll(f func(*Message) bool) (cut []Message) {
	var rest []Message
	for b.len() > 0 {
		if m := b.pop(); f(&m) {
			cut = append(cut, m)
		} else {
			rest = append(rest, m)
		}
	}
	for _, m := range slices.Backward(rest) {
		b.unpop(m)
	}
	return cut
}

// replace puts m in the place of the newest pending message of its topic, or last when
// that one is of the other class, and returns that one; or m, when it is older.
func (b *mailbox) replace(m Message, now time.Time) (Message, bool) {
	if b.latest == nil {
		b.index()
	}
	p, pending := b.latest[m.Topic]
	if !pending {
		return Message{}, false
	}
	r := &b.rings[p.ring]
	at := r.at(int(p.no - r.base))
	old := at.msg
	if old.QoS > 0 && m.QoS > 0 && m.generation().before(old.generation()) {
		return m, true // it waited in the durable inbox
	}
	b.bytes[p.ring] -= mailSize(&old)
	if p.ring == ringOf(&m) {
		b.bytes[p.ring] += mailSize(&m)
		at.msg = m
		at.msg.Payload = bytes.Clone(m.Payload)
		return old, true
	}
	r.cut(int(p.no - r.base))
	b.push(&m, now)
	if r.holes > 16 && r.holes > r.n/2 {
		r.close()
		b.index()
	}
	return old, true
}

// index notes where the newest message of each topic stands.
func (b *mailbox) index() {
	b.latest = make(map[string]place, b.len())
	seqs := make(map[string]int64, b.len())
	for i := range b.rings {
		r := &b.rings[i]
		for n := range r.n {
			at := r.at(n)
			if seq, other := seqs[at.msg.Topic]; at.seq != 0 && (!other || seq < at.seq) {
				seqs[at.msg.Topic] = at.seq
				b.latest[at.msg.Topic] = place{i, r.base + int64(n)}
			}
		}
	}
}

// mailRing is a ring buffer that grows on use and is let go of when it is empty. The
// first place is never a hole.
type mailRing struct {
	ring  []mail
	head  int
	n     int   // places in use
	holes int   // of these
	base  int64 // number of the first place
	slab  []byte
}

// own returns p in memory that only messages of the ring share. They leave in the order in
// which they came, whereas a slab of the reader may be held by one that waits while others
// of that slab are long gone.
func (r *mailRing) own(p []byte) []byte {
	switch {
	case len(p) == 0, len(p) > readSlab/8:
		return p // it has its memory for itself, see reader.own
	case len(p) > mailSlab/8:
		return bytes.Clone(p)
	}
	if len(r.slab)+len(p) > cap(r.slab) {
		r.slab = make([]byte, 0, max(min(2*cap(r.slab), mailSlab), mailSlab/8))
	}
	at := len(r.slab)
	r.slab = append(r.slab, p...)
	return r.slab[at:len(r.slab):len(r.slab)]
}

const (
	// readSlab is the size of the slabs that the payloads of the messages of a link share;
	// one of more than an eighth has memory for itself.
	readSlab = 8 << 10
	// mailSlab is that of the largest slab of a ring.
	mailSlab = 2 << 10
)

func (r *mailRing) len() int { return r.n - r.holes }

func (r *mailRing) at(i int) *mail { return &r.ring[(r.head+i)&(len(r.ring)-1)] }

func (r *mailRing) first() *mail { return r.at(0) }

// room makes room for one more.
func (r *mailRing) room() {
	if r.n < len(r.ring) {
		return
	}
	ring := make([]mail, max(16, 2*len(r.ring)))
	for i := range r.n {
		ring[i] = *r.at(i)
	}
	r.ring, r.head = ring, 0
}

// grow returns a new last place.
func (r *mailRing) grow() *mail {
	r.room()
	r.n++
	return r.at(r.n - 1)
}

func (r *mailRing) unpop(m mail) {
	r.room()
	r.head = (r.head - 1) & (len(r.ring) - 1)
	r.n++
	r.base--
	*r.at(0) = m
}

// keepRing is the largest ring that an empty mailbox keeps.
const keepRing = 2048

func (r *mailRing) pop() Message {
	m := r.first().msg
	r.dropFirst()
	r.skipHoles()
	if r.n == 0 && len(r.ring) > keepRing {
		r.ring, r.head = nil, 0
	}
	return m
}

// dropFirst gives up the first place.
func (r *mailRing) dropFirst() {
	*r.first() = mail{}
	r.head = (r.head + 1) & (len(r.ring) - 1)
	r.n--
	r.base++
}

// skipHoles gives up the holes in front.
func (r *mailRing) skipHoles() {
	for r.holes > 0 && r.first().seq == 0 {
		r.dropFirst()
		r.holes--
	}
}

// cut takes out the i-th message, and leaves a hole.
func (r *mailRing) cut(i int) {
	*r.at(i) = mail{}
	r.holes++
	r.skipHoles()
}

// close moves the messages together, so that no hole is left.
func (r *mailRing) close() {
	to := 0
	for i := range r.n {
		if m := *r.at(i); m.seq != 0 {
			*r.at(i) = mail{}
			*r.at(to) = m
			to++
		}
	}
	r.n, r.holes = to, 0
}
