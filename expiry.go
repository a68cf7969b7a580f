package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file ends messages whose expiry ends while they wait to be sent, within a
// second of it, whether there is a link or not. Those that were sent go on: the
// server may have them.

// expiries are the waiting messages that expire, as a binary heap: the first to
// expire is at index 0. Each record knows its place, so that one that leaves the
// queue leaves the heap at the cost of its depth, and nothing is ever searched.
type expiries []*record

// add puts r in, unless it is there. record.place is one more than its index.
func (h *expiries) add(r *record) {
	if r.place == 0 {
		*h = append(*h, r)
		r.place = len(*h)
		h.up(r)
	}
}

// remove takes r out, if it is there, which it rarely is.
func (h *expiries) remove(r *record) {
	if r.place != 0 {
		h.takeOut(r)
	}
}

func (h *expiries) takeOut(r *record) {
	at := r.place - 1
	r.place = 0
	all := *h
	last := all[len(all)-1]
	all[len(all)-1] = nil
	*h = all[:len(all)-1]
	if last != r {
		h.put(last, at)
		h.up(last)
		h.down(last)
	}
	if len(*h) == 0 {
		*h = nil // a queue that was long once
	}
}

func (h expiries) put(r *record, at int) { h[at], r.place = r, at+1 }

// up moves r before those that expire later.
func (h expiries) up(r *record) {
	at := r.place - 1
	for at > 0 {
		parent := (at - 1) / 2
		if h[parent].expires <= r.expires {
			break
		}
		h.put(h[parent], at)
		at = parent
	}
	h.put(r, at)
}

// down moves r behind those that expire sooner.
func (h expiries) down(r *record) {
	at := r.place - 1
	for {
		child := 2*at + 1
		if child+1 < len(h) && h[child+1].expires < h[child].expires {
			child++
		}
		if child >= len(h) || h[child].expires >= r.expires {
			break
		}
		h.put(h[child], at)
		at = child
	}
	h.put(r, at)
}

const (
	// expiryLook is how often the goroutine of the window looks at the clock while
	// messages that expire wait: its timer stands still while the machine sleeps.
	expiryLook = time.Second
	// expiryBatch is how many messages expire under one lock.
	expiryBatch = 1000
)

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
