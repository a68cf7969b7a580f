package mqtt

import (
	"time"
)

// This file is the heap of messages that expire while they wait to be sent; queue.go
// ends them, within a second, whether there is a link or not. Those that were sent go on:
// the server may have them.

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
