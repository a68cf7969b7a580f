package codec

import (
	"fmt"
	"io"
)

// The sizes of a Framer's buffer: it starts small, since most connections are
// idle, and doubles up to the size that pays off in reads of many packets.
const (
	firstBuffer = 1 << 10
	fullBuffer  = 64 << 10
)

// Frame is one packet cut out of the byte stream.
type Frame struct {
	Type  Type   // what the body holds
	Flags byte   // the lower four bits of the first byte
	Body  []byte // what follows the fixed header; a view valid until the next Fill
	Size  int    // bytes of the whole packet on the wire, fixed header included
	// Oversize says that the packet was larger than the maximum and was read
	// past, which happens to a PUBLISH of 3.x only. Body then holds its head:
	// topic name and packet identifier.
	Oversize bool
}

// Framer cuts a byte stream into packets. It is not safe for concurrent use.
//
//	for {
//		f, ok, err := framer.Next()
//		switch {
//		case err != nil:
//			return err
//		case ok:
//			handle(f)
//		default:
//			if n, err := framer.Fill(r); n == 0 && err != nil {
//				return err
//			}
//		}
//	}
type Framer struct {
	version Version
	max     uint32 // largest packet in bytes, 0 = what the protocol can express

	buf  []byte
	r, w int // the unread bytes are buf[r:w]

	skip skipper
}

// NewFramer returns a Framer for version v that accepts packets of up to max
// bytes, fixed header included; 0 stands for the limit of the protocol, a
// remaining length of 268,435,455. A server may begin with any version, the
// CONNECT tells the one to go on with.
func NewFramer(v Version, max uint32) *Framer {
	return &Framer{version: v, max: max}
}

// SetVersion makes packets from the next one on be read by the rules of v.
func (f *Framer) SetVersion(v Version) { f.version = v }

// SetMax makes n the size in bytes of the largest packet from the next one on, 0 for the limit of the protocol.
func (f *Framer) SetMax(n uint32) { f.max = n }

// Buffered returns the number of bytes that were read and not yet returned by Next.
func (f *Framer) Buffered() int { return f.w - f.r }

// Fill makes exactly one call of r.Read, into the free room of the buffer, and
// returns what Read returned. It ends the life of all views into the buffer.
// Memory follows the bytes that arrive: the buffer holds at most 64 KiB, or
// about four times what has arrived of a packet that is larger, whatever its
// header claims.
func (f *Framer) Fill(r io.Reader) (int, error) {
	f.skip.release()
	f.makeRoom()
	n, err := r.Read(f.buf[f.w:])
	f.w += n
	return n, err
}

// makeRoom moves the unread bytes to the front of a buffer that has room behind them.
func (f *Framer) makeRoom() {
	old, unread := len(f.buf), f.buf[f.r:f.w]
	full := f.w == old
	size := old
	switch {
	case size == 0:
		size = firstBuffer
	case full && size < fullBuffer:
		size *= 2 // the last read had more to give
	case len(unread) == size:
		size = f.grownSize(unread)
	case size > fullBuffer && len(unread) < fullBuffer && f.r > 0 && packetSize(unread) <= size/4:
		size = fullBuffer // a large packet was consumed, and none of that size follows
	}
	if size != old {
		f.buf = make([]byte, size)
	}
	if f.r > 0 || size != old {
		copy(f.buf, unread)
	}
	f.r, f.w = 0, len(unread)
}

// grownSize is the next size for a buffer full of one unfinished packet: four
// times what has arrived, but no more than the packet needs, and a full buffer for those
// behind it: their beginning tells whether they are large too. Doubling copies more
// and takes about twice the time for a packet of 256 KiB (BenchmarkFramerLarge).
func (f *Framer) grownSize(unread []byte) int {
	size := 4*len(unread) + firstBuffer // a payload of a round size has a header in front
	if need := packetSize(unread); need > len(unread) {
		size = min(size, need+fullBuffer)
	}
	return size
}

// packetSize returns the size of the packet that begins with b, 0 when b does not tell.
func packetSize(b []byte) int {
	_, _, remaining, n, err := ParseHeader(b)
	if n == 0 || err != nil {
		return 0
	}
	return n + remaining
}

// Next returns the next whole packet; ok is false when more bytes are needed.
// The Frame's Body is valid until the next Fill.
//
// The error is an *Error, and it stays: after it the stream cannot be trusted.
// MalformedPacket: packet type 0, AUTH in 3.x, wrong flags (see [CheckHeader]),
// a remaining length of more than four bytes or not in its shortest form, a
// PINGREQ or PINGRESP with a body. PacketTooLarge: larger than the maximum,
// found as soon as the header is there. A PUBLISH of 3.x is not refused for its
// size, because 3.x cannot tell the server why and it would come again for
// ever: it is read past without being kept, and returned with Oversize set.
func (f *Framer) Next() (frame Frame, ok bool, err error) {
	if f.skip.left > 0 {
		frame, ok = f.skipOn()
		return frame, ok, nil
	}
	b := f.buf[f.r:f.w]
	if len(b) == 0 {
		return Frame{}, false, nil
	}
	// The first byte is judged alone, so that the error is the same however the
	// bytes come in.
	if e := checkHeader(f.version, Type(b[0]>>4), b[0]&0x0F); e != nil {
		return Frame{}, false, e
	}
	typ, flags, remaining, n, err := ParseHeader(b)
	if n == 0 {
		return Frame{}, false, err
	}
	size := n + remaining
	frame = Frame{Type: typ, Flags: flags, Size: size}
	if f.max != 0 && uint64(size) > uint64(f.max) {
		if f.version == V5 || typ != PUBLISH {
			return Frame{}, false, f.errTooLarge(frame)
		}
		f.skip.start(frame, remaining)
		f.r += n
		frame, ok = f.skipOn()
		return frame, ok, nil
	}
	if remaining > 0 && (typ == PINGREQ || typ == PINGRESP) {
		return Frame{}, false, malformed(typ, 0, "bytes after the end of the packet")
	}
	if len(b) < size {
		return Frame{}, false, nil
	}
	frame.Body = b[n:size:size]
	f.r += size
	return frame, true, nil
}

func (f *Framer) skipOn() (Frame, bool) {
	n := f.skip.take(f.buf[f.r:f.w])
	f.r += n
	return f.skip.frame, f.skip.left == 0
}

func (f *Framer) errTooLarge(frame Frame) *Error {
	return &Error{Type: frame.Type, Code: PacketTooLarge, Offset: nowhere,
		Detail: fmt.Sprintf("packet of %d bytes where %d are allowed", frame.Size, f.max)}
}
