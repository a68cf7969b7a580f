package mqtt

import (
	"time"

	"github.com/millrace/mqtt/codec"
)

// agreed is what client and server may send each other on one link.
type agreed struct {
	version        Version
	receiveMaximum int
	maximumPacket  int
	maximumQoS     QoS
	noRetain       bool
	noWildcard     bool
	noShared       bool
	noSubID        bool
	keepAlive      time.Duration
	sessionExpiry  time.Duration
	sessionPresent bool
	assignedID     string

	ourReceiveMaximum int // what our CONNECT announced, on 5.0
}

// carries returns why the link cannot carry g, or nil.
func (a *agreed) carries(g *outgoing) error {
	return a.check(g.qos, g.retain, g.props, g.size)
}

// carriesRecord is carries for a message that was accepted before.
func (a *agreed) carriesRecord(r *record) error {
	return a.check(r.qos, r.retain, r.props, r.size)
}

func (a *agreed) check(qos QoS, retain bool, props *codec.Properties, size int) error {
	if a.version != V5 {
		if props != nil && !onlyExpiry(props) {
			return &VersionError{Feature: "a message with properties", Version: a.version}
		}
		return nil
	}
	if qos > a.maximumQoS {
		return &VersionError{Feature: "publishing at this QoS", Version: a.version}
	}
	if retain && a.noRetain {
		return &VersionError{Feature: "retaining messages", Version: a.version}
	}
	if n := publishSize(size, qos, codec.PropertiesSize(props)); n > a.maximumPacket {
		return &PacketTooLargeError{Size: n, Max: a.maximumPacket}
	}
	return nil
}

// publishSize is the size of a whole MQTT 5 PUBLISH; content is what topic,
// payload and properties take together, props the properties alone.
func publishSize(content int, qos QoS, props int) int {
	n := 2 + content + codec.VarintSize(props)
	if qos > 0 {
		n += 2
	}
	return 1 + codec.VarintSize(n) + n
}

// onlyExpiry reports whether p says nothing but when the message expires.
func onlyExpiry(p *codec.Properties) bool {
	return p.Present == codec.PropertySet(0).With(codec.PropMessageExpiryInterval) && len(p.User)+len(p.SubscriptionIDs) == 0
}
