package mqtt

import (
	"math"
	"strconv"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Message is an application message, to publish or received.
//
// To publish, set Topic, Payload, QoS, Retain and, on MQTT 5, Properties. A
// received Message owns its bytes; publishing it again carries its topic,
// payload, QoS and properties, and neither its retain flag nor its
// acknowledgement.
//
// Fields may be added; use field names. Messages do not compare with ==, since a payload
// is a slice.
type Message struct {
	// Topic is the topic name: 1 to 65,535 bytes of UTF-8 without wildcards
	// (section 4.7).
	Topic string
	// Payload is the application's data, of any content; nil and empty are the
	// same on the wire.
	Payload []byte
	// Properties are the MQTT 5 properties, nil for none. On a 3.x link a
	// message with properties is refused with a [VersionError], unless they are an
	// Expiry and a Key at most.
	Properties *Properties

	to  *owner // the subscription that a received message was delivered to; nil for one to publish
	ref uint32 // flags in the low bits, the ledger's generation above them
	id  uint16 // packet identifier of a received QoS 1 or 2 message

	// QoS is the quality of service, 0 to 2.
	QoS QoS
	// Retain asks the server to keep the message for later subscribers. It is
	// false on a received message, see [Message.Retained].
	Retain bool
}

// Flags in Message.ref; the generation of the ledger stands above them.
const (
	flagRetained uint32 = 1 << iota
	flagDup
	flagReplay
	flagGivenAway

	refShift = 4
)

// Properties are the properties of an MQTT 5 PUBLISH (section 3.3.2.3). The
// zero value of a field means that the property is absent.
type Properties struct {
	// Expiry is how long the message is of use (section 3.3.2.3.3). It is sent in whole
	// seconds, rounded up. A negative value is an [InvalidError]. Above 4,294,967,295 s
	// (136 years), such as math.MaxInt64, the message does not expire and no expiry is
	// sent. Time that the message waits here or at the server is subtracted, and so is
	// time that the machine sleeps. A message whose expiry ends before it is sent fails
	// with [ErrExpired] within a second, whether there is a link or not.
	//
	// On 3.x the expiry counts only until the message is sent, and the server does not
	// learn of it; a [Downgraded] event says so once in the life of the Conn.
	//
	// With a session store the time between two processes is subtracted too: by the
	// clock of the machine that counts since it booted, or after a reboot by the wall
	// clock. A wall clock that stands earlier than at the last write of the session
	// subtracts nothing.
	Expiry time.Duration
	// ContentType describes the payload, for example a MIME type.
	ContentType string
	// ResponseTopic is where an answer is expected; a topic name without wildcards.
	ResponseTopic string
	// CorrelationData lets the requester recognise the answer.
	CorrelationData []byte
	// User holds user properties in order.
	User []UserProperty
	// UTF8 says that the payload is UTF-8 text (Payload Format Indicator 1, section
	// 3.3.2.3.2). A message, or a will, with another payload is refused. A received
	// payload is not checked: it is what the server sent, whatever it says of it.
	UTF8 bool
	// Key is not sent: it names the message here, at most 1,024 bytes, for
	// [Conn.Lookup], and with a session store outlives the process. While a message
	// with the same key is in flight Publish fails with [ErrKeyInUse].
	Key string
}

// Retained reports whether the server sent the message because it was retained
// when the subscription was made (section 3.3.1.3).
func (m Message) Retained() bool { return m.ref&flagRetained != 0 }

// Dup reports whether the server marked the message as sent before
// (section 3.3.1.1). It does not say that the application saw it before.
func (m Message) Dup() bool { return m.ref&flagDup != 0 }

// Replayed reports whether a retained message came because the library
// subscribed again after the server had lost the session, so that it may have
// been delivered before.
func (m Message) Replayed() bool { return m.ref&flagReplay != 0 }

// InboxKey returns the number of a message in the durable inbox, see [WithInbox]:
// never given to another one, and after a crash the same. It is 0 for a message
// that is not from there.
func (m Message) InboxKey() uint64 {
	key, _ := m.inbox()
	return key
}

// Redelivered reports whether an earlier process had the message in its inbox, so
// that it may have handed it out. It says nothing about redelivery by the server,
// see [Message.Dup].
func (m Message) Redelivered() bool {
	_, earlier := m.inbox()
	return earlier
}

func (m *Message) inbox() (key uint64, earlier bool) {
	if m.to == nil || m.QoS == 0 {
		return 0, false
	}
	return m.to.exchange.inboxKey(m.generation())
}

// GiveAway returns m marked so that Publish keeps m.Payload instead of copying
// it. The payload must not change until the Future resolves. A net.Conn of a dialer's
// own kind (see [WithDialer]) is given a copy to write all the same.
func (m Message) GiveAway() Message {
	m.ref |= flagGivenAway
	return m
}

// Ack acknowledges a message that was received under [WithManualAck]. It may be
// called from any goroutine; acknowledgements leave in the order of arrival
// whatever the order of the calls.
//
// It returns nil when the acknowledgement is noted, or when none is owed (QoS 0).
// [ErrAcked] says that it was noted before, [ErrStale] that the server's session
// ended or that the library acknowledged the message by itself.
func (m Message) Ack() error {
	if m.QoS == 0 {
		return nil
	}
	if m.to == nil {
		return ErrNotReceived
	}
	return m.to.exchange.ack(m.generation(), m.id)
}

// TextPayload is a payload of text.
func TextPayload(s string) []byte { return []byte(s) }

// IntPayload is a payload that is the decimal text of v.
func IntPayload(v int64) []byte { return strconv.AppendInt(nil, v, 10) }

// FloatPayload is a payload that is the shortest decimal text that reads back as v.
func FloatPayload(v float64) []byte { return strconv.AppendFloat(nil, v, 'g', -1, 64) }

// wireProperties copies p for the wire, so that the caller may reuse it.
func wireProperties(p *Properties) *codec.Properties {
	if p == nil {
		return nil
	}
	if p.onlyHere() {
		return nil // nothing for the wire, so that 3.x takes it
	}
	w := &codec.Properties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic}
	if p.UTF8 {
		w.PayloadFormat = 1
		w.Present = w.Present.With(codec.PropPayloadFormatIndicator)
	}
	if p.Expiry > 0 && p.Expiry <= maxExpiry {
		w.MessageExpiry = wholeSeconds(p.Expiry)
		w.Present = w.Present.With(codec.PropMessageExpiryInterval)
	}
	if p.ContentType != "" {
		w.Present = w.Present.With(codec.PropContentType)
	}
	if p.ResponseTopic != "" {
		w.Present = w.Present.With(codec.PropResponseTopic)
	}
	if len(p.CorrelationData) > 0 {
		w.CorrelationData = append([]byte(nil), p.CorrelationData...)
		w.Present = w.Present.With(codec.PropCorrelationData)
	}
	if len(p.User) > 0 {
		w.User = append([]UserProperty(nil), p.User...)
	}
	return w
}

// onlyHere reports whether p has nothing but what stays here: a key, or an expiry
// that is for ever.
func (p *Properties) onlyHere() bool {
	here := p.Expiry == 0 && p.Key != "" || p.Expiry > maxExpiry
	return here && p.ContentType == "" && p.ResponseTopic == "" &&
		len(p.CorrelationData) == 0 && len(p.User) == 0 && !p.UTF8
}

// maxExpiry is the longest message expiry in the four bytes of the wire, 136 years.
// One beyond is none.
const maxExpiry = math.MaxUint32 * time.Second

// messageProperties makes the properties of a received message, nil when it has
// none but the subscription identifiers, which are this package's own, or what
// says no more than their absence.
func messageProperties(p *codec.PublishView) *Properties {
	raw := p.Props
	if len(raw) == 0 || p.SubIDs == 1 && len(raw) == 1+codec.VarintSize(int(p.SubID)) {
		return nil
	}
	var w codec.Properties
	raw.Decode(&w)
	if w.PayloadFormat == 0 && w.MessageExpiry == 0 && w.ContentType == "" && w.ResponseTopic == "" &&
		len(w.CorrelationData) == 0 && len(w.User) == 0 {
		return nil
	}
	return &Properties{
		UTF8:            w.PayloadFormat == 1,
		Expiry:          time.Duration(w.MessageExpiry) * time.Second,
		ContentType:     w.ContentType,
		ResponseTopic:   w.ResponseTopic,
		CorrelationData: w.CorrelationData,
		User:            w.User,
	}
}

// mailSize is what a pending message counts for: its parts, and what keeping it takes.
func mailSize(m *Message) int {
	n := len(m.Topic) + len(m.Payload) + mailOverhead
	if m.QoS > 0 {
		n += exchangeOverhead
	}
	if p := m.Properties; p != nil {
		n += propertiesOverhead + len(p.ContentType) + len(p.ResponseTopic) + len(p.CorrelationData)
		for i := range p.User {
			n += codec.UserPropertyOverhead + len(p.User[i].Key) + len(p.User[i].Value)
		}
	}
	return n
}

const (
	// mailOverhead is what a message takes in a mailbox beside its parts.
	mailOverhead = 96
	// exchangeOverhead is what the exchange of a message of QoS 1 or 2 takes.
	exchangeOverhead = 128
	// propertiesOverhead is what properties take beside their texts.
	propertiesOverhead = 160
)
