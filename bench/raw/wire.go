package raw

import (
	"encoding/binary"
	"errors"
)

// batchSize is the size of reads and writes: larger ones gained nothing on
// loopback.
const batchSize = 64 << 10

// Packet types, as they stand in the upper four bits of a packet's first byte.
const (
	typeConnect     = 1
	typePublish     = 3
	typePuback      = 4
	typePubrec      = 5
	typePubrel      = 6
	typePubcomp     = 7
	typeSubscribe   = 8
	typeUnsubscribe = 10
	typePingreq     = 12
	typeDisconnect  = 14
)

var errLength = errors.New("raw: malformed remaining length")

// Message is what is published or delivered over and over.
type Message struct {
	// Topic is sent as it is.
	Topic   string
	Payload int  // bytes
	QoS     byte // 0 to 2
}

// AppendPublish appends a PUBLISH with a payload of zero bytes. id is left out
// at QoS 0; v5 says whether there are properties, and a subscription identifier
// above 0 is one.
func (m Message) AppendPublish(dst []byte, id uint16, v5 bool, subscription int) []byte {
	var properties []byte
	if v5 {
		if subscription > 0 {
			properties = appendVarint([]byte{0x0b}, subscription)
		}
		properties = append(appendVarint(nil, len(properties)), properties...)
	}
	length := 2 + len(m.Topic) + len(properties) + m.Payload
	if m.QoS > 0 {
		length += 2
	}
	dst = appendVarint(append(dst, typePublish<<4|m.QoS<<1), length)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Topic)))
	dst = append(dst, m.Topic...)
	if m.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	dst = append(dst, properties...)
	return append(dst, make([]byte, m.Payload)...)
}

func appendVarint(dst []byte, n int) []byte {
	for n > 127 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// frame returns the length of the first packet in b and where its body begins;
// length 0 means that b ends within it.
func frame(b []byte) (length, body int, err error) {
	n := 0
	for i := 1; i < len(b) && i <= 4; i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i] < 0x80 {
			if i+1+n > len(b) {
				return 0, 0, nil
			}
			return i + 1 + n, i + 1, nil
		}
	}
	if len(b) > 4 {
		return 0, 0, errLength
	}
	return 0, 0, nil
}

// ack returns the four bytes of an acknowledgement in its short form.
func ack(kind byte, id []byte) [4]byte {
	first := kind << 4
	if kind == typePubrel {
		first |= 2
	}
	return [4]byte{first, 2, id[0], id[1]}
}

// ring holds n encoded PUBLISH packets with ids 1 to n, to be written over and
// over in their order.
type ring struct {
	bytes []byte
	size  int // of one packet
	next  int // index of the packet that comes next
	n     int
}

func newRing(m Message, v5 bool, subscription, n int) *ring {
	r := &ring{n: n}
	for id := 1; id <= n; id++ {
		r.bytes = m.AppendPublish(r.bytes, uint16(id), v5, subscription)
	}
	r.size = len(r.bytes) / n
	return r
}

// take returns at most max packets in one piece, at most a batch, and their
// number.
func (r *ring) take(max int) ([]byte, int) {
	k := min(max, r.n-r.next, r.perBatch())
	b := r.bytes[r.next*r.size : (r.next+k)*r.size]
	r.next = (r.next + k) % r.n
	return b, k
}

func (r *ring) perBatch() int { return max(1, batchSize/r.size) }

// ringSize is enough ids for a window, and enough packets to fill a batch.
func ringSize(m Message, window int) int {
	return max(window, 2*batchSize/max(64, m.Payload), 16)
}

// reader cuts a byte stream into packets. Its buffer grows with the largest.
type reader struct {
	read       func([]byte) (int, error)
	buf        []byte
	start, end int
}

// fill reads once, after moving what is left of a packet to the front.
func (r *reader) fill() error {
	if r.buf == nil {
		r.buf = make([]byte, batchSize)
	}
	r.end = copy(r.buf, r.buf[r.start:r.end])
	r.start = 0
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	return err
}

// next returns the next packet that is here as a whole, nil when there is none.
// It is valid until fill.
func (r *reader) next() (packet []byte, body int, err error) {
	length, body, err := frame(r.buf[r.start:r.end])
	if err != nil || length == 0 {
		return nil, 0, err
	}
	packet = r.buf[r.start : r.start+length]
	r.start += length
	return packet, body, nil
}
