package mqtt

import (
	"time"

	"github.com/millrace/mqtt/internal/pulse"
)

// This file notes how many of the written bytes the peer's TCP has taken, so that a missing
// answer counts as late only when the peer has had the time to send it.

// lateness decides whether an answer is late. The peer cannot answer a packet that is still
// on its way. So half of the limit after the packet was put into the buffer, lateness notes
// the end of the buffer; when the peer has not taken the bytes before that end by then, the
// limit counts from when it has, or while it takes none from when it last took some. It
// belongs to the keepalive goroutine.
type lateness struct {
	out    *sender
	socket *socket

	noted   time.Time // when the end of the buffer was noted; zero before
	swaps   uint64    // the first swap of the writer after that end is written
	end     uint64    // the position of that end in the socket's queue, once known
	arrived time.Time // when the peer was seen to have taken it; zero if it had at noted

	moved time.Time // when the peer was last seen to take bytes before that end
	taken uint64    // the position in the socket's queue that it had taken then
	ended bool      // end is known
	done  bool      // the peer has taken all bytes before that end
}

// late reports whether the answer to a packet that was put into the buffer at
// since is missing for longer than limit.
func (d *lateness) late(since, now time.Time, limit time.Duration) bool {
	if now.Sub(since) < limit/2 {
		return false
	}
	if d.noted.Before(since) {
		d.note(now)
	} else if !d.done {
		d.update(now)
	}
	from := since
	for _, t := range [...]time.Time{d.moved, d.arrived} {
		if t.After(from) {
			from = t
		}
	}
	return now.Sub(from) > limit
}

// note notes the end of the buffer at the time now.
func (d *lateness) note(now time.Time) {
	_, swaps := d.out.swapsTo()
	*d = lateness{out: d.out, socket: d.socket, noted: now, swaps: swaps}
	d.update(now)
	d.arrived, d.moved = time.Time{}, now // until the peer takes bytes
	if d.done {
		d.moved = time.Time{}
	}
}

// update notes how far the noted end is, and whether the peer takes the bytes before it.
func (d *lateness) update(now time.Time) {
	swap, _ := d.out.swapsTo()
	var taken uint64
	known := false
	if d.socket.queue != nil {
		taken, known = d.socket.queue.Taken()
	}
	if taken > d.taken {
		d.taken, d.moved = taken, now
	}
	if swap < d.swaps { // the bytes before the end are not all written
		if sent := d.socket.at(&d.socket.sent); sent.After(d.moved) {
			d.moved = sent
		}
		return
	}
	if known && !d.ended {
		d.end, known = d.socket.queue.End()
		d.ended = known
	}
	if !known || taken >= d.end {
		d.done, d.arrived = true, now
	}
}

// pingProgress notes when the peer's TCP takes each PINGREQ. It belongs to the keepalive
// goroutine. It asks the operating system only while a PINGREQ is not taken yet.
type pingProgress struct {
	socket *socket
	bytes  uint64    // the position in the queue up to which the peer's TCP has taken
	at     time.Time // when it was first seen to have taken so many
	ping   time.Time // when it was seen to have taken the last PINGREQ
}

// add sets in f when the peer took bytes, and the last PINGREQ. handed is when that was
// handed to the writer.
func (t *pingProgress) add(f *pulse.Facts, handed time.Time) {
	if t.socket.queue == nil {
		f.Taken, f.PingTaken = f.Sent, f.PingSent
		return
	}
	if t.ping.Before(handed) {
		t.update(f, handed)
	}
	f.Taken, f.PingTaken = t.at, t.ping
}

// update asks the operating system how far the peer is. Until the PINGREQ is taken, all
// bytes that the peer takes were written before it.
func (t *pingProgress) update(f *pulse.Facts, handed time.Time) {
	written := !f.PingSent.Before(handed)
	bytes, ok := t.socket.queue.Taken()
	if bytes > t.bytes {
		t.bytes, t.at = bytes, f.Now
	}
	if written && (!ok || bytes >= t.socket.pingEnd.Load()) {
		t.ping = f.Now
	}
}
