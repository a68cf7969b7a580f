package server

import (
	"math"
	"time"
)

// A flow is one direction of a [Link]: bytes written by one end, waiting for the other.
// Every field is guarded by the Link's mutex, and every change that can unblock a reader or
// writer is followed by a broadcast on the Link's condition.
type flow struct {
	chunks []chunk
	size   int // bytes in chunks
	limit  int // a writer waits while size has reached it

	ended  bool // the writer closed its end: EOF once chunks are empty
	gone   bool // the reader closed its end: writes fail
	broken bool // the link was cut: reads fail once chunks are empty, writes at once

	stalled  bool          // nothing comes out, not even the end
	dropping bool          // what is written vanishes
	delay    time.Duration // age at which a chunk can be read
	maxRead  int           // most bytes a Read returns, 0 = no limit
	cutAfter int64         // bytes that may still be written before the link is cut
	passed   int64         // bytes accepted from the writer
}

// A chunk is what was written at one moment.
type chunk struct {
	data []byte
	at   time.Time // not readable before
}

const neverCut = math.MaxInt64

func newFlow(limit int) flow { return flow{limit: limit, cutAfter: neverCut} }

// room returns how many of want bytes a Write can place now.
func (f *flow) room(want int) int {
	n := want
	if !f.dropping {
		n = min(n, f.limit-f.size)
	}
	return int(min(int64(n), f.cutAfter))
}

// put accepts all of p, for which there is room, and reports whether the link is to be cut now.
func (f *flow) put(p []byte) (cut bool) {
	f.passed += int64(len(p))
	if f.cutAfter != neverCut {
		f.cutAfter -= int64(len(p))
	}
	if !f.dropping && len(p) > 0 {
		f.append(p)
	}
	return f.cutAfter == 0
}

func (f *flow) append(p []byte) {
	f.size += len(p)
	if last := len(f.chunks) - 1; f.delay == 0 && last >= 0 && f.chunks[last].at.IsZero() {
		f.chunks[last].data = append(f.chunks[last].data, p...)
		return
	}
	c := chunk{data: append([]byte(nil), p...)}
	if f.delay > 0 {
		c.at = time.Now().Add(f.delay)
	}
	f.chunks = append(f.chunks, c)
}

// take copies what can be read now into p. A zero n with a positive wait says when to look again.
func (f *flow) take(p []byte) (n int, wait time.Duration) {
	if f.stalled {
		return 0, 0
	}
	if f.maxRead > 0 && len(p) > f.maxRead {
		p = p[:f.maxRead]
	}
	for n < len(p) && len(f.chunks) > 0 {
		c := &f.chunks[0]
		if !c.at.IsZero() {
			if wait = time.Until(c.at); wait > 0 {
				break
			}
		}
		k := copy(p[n:], c.data)
		n += k
		c.data = c.data[k:]
		if len(c.data) == 0 {
			f.chunks = f.chunks[1:]
		}
	}
	f.size -= n
	return n, wait
}

// clear loses what is on its way.
func (f *flow) clear() { f.chunks, f.size = nil, 0 }
