package mqtt

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/millrace/mqtt/codec"
)

// outgoing is one checked message on its way in.
type outgoing struct {
	topic   string
	payload []byte
	props   *codec.Properties
	expiry  time.Duration
	key     string // the application's
	size    int
	cost    int // what it counts for in the queue's limit
	qos     QoS
	retain  bool
	byRef   bool // payload may be kept without a copy
	given   bool // it is the caller's own
}

// checkOutgoing checks m before any I/O, and copies what must be copied before
// the lock is taken.
func checkOutgoing(m *Message) (outgoing, error) {
	g := outgoing{topic: m.Topic, payload: m.Payload, qos: m.QoS, retain: m.Retain}
	if err := codec.CheckTopicName(m.Topic); err != nil {
		return g, invalid("topic", m.Topic, problemOf(err))
	}
	if m.QoS > 2 {
		return g, invalid("QoS", "", "must be 0, 1 or 2")
	}
	g.size = len(m.Topic) + len(m.Payload)
	if m.Properties != nil {
		if err := checkProperties(m.Properties); err != nil {
			return g, err
		}
		if m.Properties.UTF8 && !utf8.Valid(m.Payload) {
			return g, invalid("payload", "", "is not UTF-8, and its properties say that it is")
		}
		if len(m.Properties.Key) > maxKey {
			return g, invalid("key", m.Properties.Key, "longer than 1,024 bytes")
		}
		g.key = m.Properties.Key
		g.props = wireProperties(m.Properties)
		if m.Properties.Expiry <= maxExpiry {
			g.expiry = m.Properties.Expiry
		}
		g.size += codec.PropertiesSize(g.props)
	}
	if g.size > maxPacket-16 {
		return g, &PacketTooLargeError{Size: g.size + 16, Max: maxPacket}
	}
	g.cost = g.size
	g.given = m.ref&flagGivenAway != 0
	g.byRef = g.given
	if !g.byRef && (len(m.Payload) > refSize || m.QoS > 0 && len(m.Payload) > slabPayload) {
		g.payload, g.byRef = slices.Clone(m.Payload), true
	}
	return g, nil
}

// age takes d from the expiry of g, and reports whether any is left.
func (g *outgoing) age(d time.Duration) bool {
	if g.expiry == 0 {
		return true
	}
	if g.expiry -= d; g.expiry <= 0 {
		return false
	}
	p := *g.props
	p.MessageExpiry = max(1, min(wholeSeconds(g.expiry), p.MessageExpiry))
	g.props = &p
	return true
}

// maxKey is the longest key of a message, in bytes.
const maxKey = 1024

// maxPacket is the largest packet of the protocol (section 2.1.4), fixed header included.
const maxPacket = 268_435_455 + 5

// refSize is the payload size above which a payload stands beside the buffer by
// reference instead of being copied into it.
const refSize = 16 << 10

// slabPayload is the largest payload that is copied into a slab with others; larger
// ones get memory of their own, before the lock.
const slabPayload = 512

// checkProperties checks what the user gave for the wire.
func checkProperties(p *Properties) error {
	if err := codec.CheckUTF8(p.ContentType); err != nil {
		return invalid("content type", p.ContentType, problemOf(err))
	}
	if p.ResponseTopic != "" {
		if err := codec.CheckTopicName(p.ResponseTopic); err != nil {
			return invalid("response topic", p.ResponseTopic, problemOf(err))
		}
	}
	if len(p.CorrelationData) > 65535 {
		return invalid("correlation data", "", "longer than 65,535 bytes")
	}
	if p.Expiry < 0 {
		return invalid("message expiry", p.Expiry.String(), "is negative")
	}
	return checkUser(p.User)
}

func checkUser(user []UserProperty) error {
	for _, u := range user {
		if err := codec.CheckUTF8(u.Key); err != nil {
			return invalid("user property name", u.Key, problemOf(err))
		}
		if err := codec.CheckUTF8(u.Value); err != nil {
			return invalid("user property value", u.Value, problemOf(err))
		}
	}
	return nil
}
