package mqtt

import (
	"time"

	"github.com/millrace/mqtt/internal/pulse"
)

// This file tells how far what was written has come: what the peer's TCP has taken, and
// whether an answer that is missing can be there at all.

// lateness decides whether an answer is late: a packet that is on its way to the
// peer cannot be answered yet. Half of the time that the answer may take after the
// packet was put into the buffer, it notes how far the link is; when the packet was
// still on its way then, the time starts when the peer's TCP has taken it, as long
// as the line moves. It belongs to the keepalive goroutine.
type lateness struct {
	out    *sender
	socket *socket

	noted   time.Time // whatever was in the buffer then is meant; zero: nothing yet
	swaps   uint64    // which of the writer's swaps comes behind it
	end     uint64    // where it ends in the socket's queue, once known
	arrived time.Time // when the peer was seen to have it, zero if it had it from the start

	moved time.Time // when the line was last seen to move before that
	taken uint64    // what the peer had taken then
	ended bool      // end is known
	done  bool      // the peer has it
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

// note begins with what is in the buffer now.
func (d *lateness) note(now time.Time) {
	_, swaps := d.out.swapsTo()
	*d = lateness{out: d.out, socket: d.socket, noted: now, swaps: swaps}
	d.update(now)
	d.arrived, d.moved = time.Time{}, now // the line has yet to show whether it moves
	if d.done {
		d.moved = time.Time{}
	}
}

// update notes how far the packet is, and whether the bytes before it move.
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
	if swap < d.swaps { // not all of it is written
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
	bytes  uint64    // that the peer's TCP has taken
	at     time.Time // when it was first seen to have taken them
	ping   time.Time // when it was seen to have taken the last PINGREQ
}

// add adds to f what the peer has taken; handed is when the last PINGREQ was handed
// to the writer.
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
