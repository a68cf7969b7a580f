package mqtt

import (
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
}

type mail struct {
	msg Message
	seq int64
	age time.Duration // of the mailbox when it came; -1 for one that was put back
}

func (b *mailbox) len() int { return b.rings[0].n + b.rings[1].n }

// size is what the messages count for in bytes.
func (b *mailbox) size() int { return b.bytes[0] + b.bytes[1] }

// held returns how many messages of QoS 1 and 2 there are, and their size.
func (b *mailbox) held() (n, bytes int) { return b.rings[1].n, b.bytes[1] }

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
	last := b.rings[i].grow()
	last.msg, last.seq, last.age = *m, int64(b.seq), max(0, now.Sub(b.born))
}

// unpop puts m first again.
func (b *mailbox) unpop(m Message) {
	b.front--
	i := ringOf(&m)
	b.bytes[i] += mailSize(&m)
	b.rings[i].unpop(mail{msg: m, seq: b.front, age: -1})
}

// pop takes the first message; there must be one.
func (b *mailbox) pop() Message {
	r := &b.rings[0]
	if o := &b.rings[1]; r.n == 0 || o.n > 0 && o.first().seq < r.first().seq {
		r = o
	}
	m := r.pop()
	b.bytes[ringOf(&m)] -= mailSize(&m)
	return m
}

// drop0 takes the oldest QoS 0 message, if there is one.
func (b *mailbox) drop0() (Message, bool) {
	if b.rings[0].n == 0 {
		return Message{}, false
	}
	m := b.rings[0].pop()
	b.bytes[0] -= mailSize(&m)
	return m, true
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

// replace puts m in the place of the pending message of its topic, or last when
// that one is of the other class, and returns that one; or m, when it is older. It
// looks at every pending message.
func (b *mailbox) replace(m Message, now time.Time) (Message, bool) {
	for i := range b.rings {
		r := &b.rings[i]
		for n := range r.n {
			if at := r.at(n); at.msg.Topic == m.Topic {
				old := at.msg
				if old.QoS > 0 && m.QoS > 0 && m.generation().before(old.generation()) {
					return m, true // it waited in the durable inbox
				}
				b.bytes[i] -= mailSize(&old)
				if i == ringOf(&m) {
					b.bytes[i] += mailSize(&m)
					at.msg = m
				} else {
					r.cut(n)
					b.push(&m, now)
				}
				return old, true
			}
		}
	}
	return Message{}, false
}

// mailRing is a ring buffer that grows on use and is let go of when it is empty.
type mailRing struct {
	ring []mail
	head int
	n    int
}

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
	*r.at(0) = m
}

// keepRing is the largest ring that an empty mailbox keeps.
const keepRing = 2048

func (r *mailRing) pop() Message {
	m := r.first().msg
	*r.first() = mail{}
	r.head = (r.head + 1) & (len(r.ring) - 1)
	r.n--
	if r.n == 0 && len(r.ring) > keepRing {
		r.ring, r.head = nil, 0
	}
	return m
}

// cut takes out the i-th message.
func (r *mailRing) cut(i int) {
	for ; i < r.n-1; i++ {
		*r.at(i) = *r.at(i + 1)
	}
	*r.at(r.n - 1) = mail{}
	r.n--
}
