package server

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// A message is an application message on its way through the server; immutable.
type message struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
	props   *codec.Properties // what a PUBLISH hands on, nil when nothing
	expires time.Time         // zero = never
	from    *session          // nil when the test published it
}

// handedOn are the properties of a PUBLISH or a will that receivers see, section 3.3.2.3.
var handedOn = [...]codec.PropertyID{
	codec.PropPayloadFormatIndicator, codec.PropMessageExpiryInterval, codec.PropContentType,
	codec.PropResponseTopic, codec.PropCorrelationData,
}

// newMessage keeps payload and the values in props: the caller gives them away.
func newMessage(topic string, payload []byte, qos byte, retain bool, props *codec.Properties) *message {
	m := &message{topic: topic, payload: payload, qos: qos, retain: retain}
	if props == nil {
		return m
	}
	kept := *props
	kept.Present, kept.SubscriptionIDs = 0, nil
	for _, id := range handedOn {
		if props.Has(id) {
			kept.Present = kept.Present.With(id)
		}
	}
	if kept.Present != 0 || len(kept.User) > 0 {
		m.props = &kept
	}
	if kept.Has(codec.PropMessageExpiryInterval) {
		m.expires = time.Now().Add(time.Duration(kept.MessageExpiry) * time.Second)
	}
	return m
}

func (m *message) expired() bool { return !m.expires.IsZero() && !time.Now().Before(m.expires) }

// outProps are the properties for one receiver: what is left of the expiry [MQTT-3.3.2-6], and
// the identifiers of its subscriptions.
func (m *message) outProps(v codec.Version, subIDs []uint32) *codec.Properties {
	if v != codec.V5 || (m.props == nil && len(subIDs) == 0) {
		return nil
	}
	var p codec.Properties
	if m.props != nil {
		p = *m.props
	}
	p.SubscriptionIDs = subIDs
	if !m.expires.IsZero() {
		left := time.Until(m.expires)
		p.MessageExpiry = uint32(max(0, (left+time.Second-1)/time.Second))
	}
	return &p
}
