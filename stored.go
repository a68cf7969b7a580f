package mqtt

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// What the records of a session store hold. Each value begins with the number
// of its format, so that another version of this package can tell. Behind it every
// format keeps in place what an older version must not use again: the number of
// the process in Meta, which an older version counts on, the packet identifier in
// Exchange and Incoming.
const storedFormat = 1

var (
	// errStoredFormat and errStoredKind are of a later version: the record stays.
	errStoredFormat = errors.New("written in a format that this version does not know")
	errStoredKind   = errors.New("of a kind that this version does not know")
	// errStoredValue says that a value is not one that this package wrote.
	errStoredValue = errors.New("not what this version writes")
)

// checkFormat returns why the value b is not of our format, or nil.
func checkFormat(b []byte) error {
	switch {
	case len(b) == 0:
		return errStoredValue
	case b[0] != storedFormat:
		return errStoredFormat
	}
	return nil
}

// storedMeta is the record of kind Meta.
type storedMeta struct {
	epoch uint64       // number of the process that opened the session last
	clock *storedClock // nil when no stored message expires
}

const (
	// metaFormatClock is the format of the value with a clock, which an older
	// version leaves as it is; without one it is storedFormat.
	metaFormatClock = 2
	// metaSize is the size of the value without a clock; a later version may add to it.
	metaSize = 9
)

func (m *storedMeta) append(dst []byte) []byte {
	if m.clock == nil {
		return binary.BigEndian.AppendUint64(append(dst, storedFormat), m.epoch)
	}
	return m.clock.append(binary.BigEndian.AppendUint64(append(dst, metaFormatClock), m.epoch))
}

func (m *storedMeta) decode(b []byte) error {
	if len(b) == metaSize+storedClockSize && b[0] == metaFormatClock {
		m.clock = new(storedClock)
		m.clock.decode(b[metaSize:])
	} else if err := checkFormat(b); err != nil {
		return err
	} else if len(b) != metaSize {
		return errStoredValue
	}
	m.epoch = binary.BigEndian.Uint64(b[1:])
	return nil
}

// storedMessage is a record of kind Outgoing: what the application asked to be
// sent. The message itself is a PUBLISH of MQTT 5, which says the same to every
// version of this package; its payload stands last, so that it needs no copy.
type storedMessage struct {
	expires time.Time // on the session's clock; zero for never
	key     string    // the application's
	topic   string
	payload []byte
	props   *codec.Properties
	qos     QoS
	retain  bool
}

// storedHead is the size of the value before the application's key.
const storedHead = 1 + 8 + 2

// appendHead appends everything but the payload.
func (m *storedMessage) appendHead(dst []byte) []byte {
	dst = append(dst, storedFormat)
	var expires uint64
	if !m.expires.IsZero() {
		expires = uint64(m.expires.UnixNano())
	}
	dst = binary.BigEndian.AppendUint64(dst, expires)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.key)))
	dst = append(dst, m.key...)
	p := codec.Publish{QoS: byte(m.qos), Retain: m.retain, PacketID: 1, Topic: m.topic, Payload: m.payload, Props: m.props}
	return codec.AppendPublishHeader(dst, codec.V5, &p)
}

// size is the size of the whole value.
func (m *storedMessage) size() int {
	p := codec.Publish{QoS: byte(m.qos), Retain: m.retain, PacketID: 1, Topic: m.topic, Payload: m.payload, Props: m.props}
	return storedHead + len(m.key) + codec.PublishSize(codec.V5, &p)
}

// decode reads a value, whose bytes it refers to for the payload alone.
func (m *storedMessage) decode(b []byte) error {
	if err := checkFormat(b); err != nil {
		return err
	}
	if len(b) < storedHead {
		return errStoredValue
	}
	if at := binary.BigEndian.Uint64(b[1:]); at != 0 {
		m.expires = time.Unix(0, int64(at))
	}
	n := int(binary.BigEndian.Uint16(b[9:]))
	if b = b[storedHead:]; len(b) < n {
		return errStoredValue
	}
	m.key, b = string(b[:n]), b[n:]
	t, flags, rest, n, err := codec.ParseHeader(b)
	if err != nil || n == 0 || t != codec.PUBLISH || len(b) != n+rest {
		return errStoredValue
	}
	var p codec.PublishView
	if err := p.Decode(codec.V5, flags, b[n:]); err != nil {
		return err
	}
	m.topic, m.payload, m.qos, m.retain = string(p.Topic), p.Payload, QoS(p.QoS), p.Retain
	if len(p.Props) > 0 {
		m.props = new(codec.Properties)
		p.Props.Decode(m.props)
	}
	return nil
}

// storedInbox is a record of kind Inbox: a message that arrived and that the
// application has not acknowledged, with the filters that it came for. As in
// storedMessage it is a PUBLISH of MQTT 5.
type storedInbox struct {
	names []string
	flags byte // of Message.ref
	msg   Message
}

// appendHead appends everything but the payload.
func (r *storedInbox) appendHead(dst []byte) []byte {
	dst = append(dst, storedFormat, r.flags&(1<<refShift-1))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.names)))
	for _, name := range r.names {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
		dst = append(dst, name...)
	}
	m := &r.msg
	p := codec.Publish{QoS: byte(m.QoS), PacketID: m.id, Topic: m.Topic, Payload: m.Payload, Props: wireProperties(m.Properties)}
	return codec.AppendPublishHeader(dst, codec.V5, &p)
}

// decode reads a value and keeps none of its bytes.
func (r *storedInbox) decode(b []byte) error {
	p, err := r.decodeHead(b)
	if err != nil {
		return err
	}
	r.msg = Message{Topic: string(p.Topic), Payload: slices.Clone(p.Payload), QoS: QoS(p.QoS), id: p.PacketID, Properties: messageProperties(&p)}
	return nil
}

// decodeHead reads what the message is about, and returns it as it lies in b.
func (r *storedInbox) decodeHead(b []byte) (p codec.PublishView, err error) {
	if err := checkFormat(b); err != nil {
		return p, err
	}
	if len(b) < 4 {
		return p, errStoredValue
	}
	r.flags = b[1]
	names := binary.BigEndian.Uint16(b[2:])
	for b = b[4:]; names > 0; names-- {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			return p, errStoredValue
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		r.names = append(r.names, string(b[2:n]))
		b = b[n:]
	}
	t, flags, rest, n, err := codec.ParseHeader(b)
	if err != nil || n == 0 || t != codec.PUBLISH || len(b) != n+rest || flags&6 == 0 {
		return p, errStoredValue
	}
	return p, p.Decode(codec.V5, flags, b[n:])
}

// exchangeState is how far an exchange in the store is.
type exchangeState uint8

const (
	exchangeSent        exchangeState = 1 + iota // the PUBLISH may have been written
	exchangeReleased                             // PUBREC came: the server owns the message
	exchangeQuarantined                          // never sent again, its identifier stays taken
)

// storedExchange is a record of kind Exchange: how far the exchange of the
// Outgoing record with the same number is.
type storedExchange struct {
	release uint64 // order of the PUBRECs, for exchangeReleased
	id      uint16
	qos     QoS
	state   exchangeState
}

// exchangeID is where the packet identifier stands in an Exchange of any format,
// incomingID where in an Incoming.
const exchangeID, incomingID = 3, 1

// idAt returns the packet identifier at a place of b, 0 when there is none.
func idAt(b []byte, at int) uint16 {
	if len(b) < at+2 {
		return 0
	}
	return binary.BigEndian.Uint16(b[at:])
}

func (x *storedExchange) append(dst []byte) []byte {
	dst = append(dst, storedFormat, byte(x.state), byte(x.qos))
	dst = binary.BigEndian.AppendUint16(dst, x.id)
	return binary.BigEndian.AppendUint64(dst, x.release)
}

func (x *storedExchange) decode(b []byte) error {
	if err := checkFormat(b); err != nil {
		return err
	}
	if len(b) != 13 || b[2] != 1 && b[2] != 2 {
		return errStoredValue
	}
	x.state, x.qos = exchangeState(b[1]), QoS(b[2])
	x.id, x.release = binary.BigEndian.Uint16(b[3:]), binary.BigEndian.Uint64(b[5:])
	if x.id == 0 || x.state < exchangeSent || x.state > exchangeQuarantined {
		return errStoredValue
	}
	return nil
}

// storedIncoming is a record of kind Incoming: an inbound QoS 2 exchange whose
// PUBREC was released and whose PUBREL has not come.
type storedIncoming struct{ id uint16 }

func (x *storedIncoming) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint16(append(dst, storedFormat), x.id)
}

func (x *storedIncoming) decode(b []byte) error {
	if err := checkFormat(b); err != nil {
		return err
	}
	if len(b) != 3 {
		return errStoredValue
	}
	if x.id = binary.BigEndian.Uint16(b[1:]); x.id == 0 {
		return errStoredValue
	}
	return nil
}
