package server

import (
	"bytes"
	"hash/fnv"
	"time"

	"github.com/millrace/mqtt/codec"
)

// An incoming is a QoS 1 or 2 PUBLISH of a client, kept past its end so that a resend can be told
// from a new message.
type incoming struct {
	qos      byte
	hash     uint64 // of topic and payload
	sequence int    // of its first sight
	link     int    // connection it was last seen on
	state    incomingState
}

type incomingState uint8

const (
	owed     incomingState = iota // PUBACK or PUBREC is not sent
	recorded                      // PUBREC is sent
	released                      // PUBREL came, PUBCOMP is not sent
	done                          // the identifier is free
)

// onPublish takes a PUBLISH: aliases and limits, the checks, the hook, then routing and answer.
func (c *client) onPublish(f codec.Frame) error {
	var v codec.PublishView
	if err := v.Decode(c.version, f.Flags, f.Body); err != nil {
		return err
	}
	r, err := c.received(&v)
	if err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	if c.gone() {
		s.mu.Unlock()
		return errTakenOver
	}
	in, route, err := c.admit(&r)
	s.logReceived(r)
	hook := s.cfg.OnPublish
	s.mu.Unlock()
	if err != nil {
		return err
	}
	code := codec.Success
	if route && hook != nil {
		code = hook(r)
	}
	a := Ack{Type: codec.PUBACK, PacketID: r.PacketID, Codes: []codec.ReasonCode{code}}
	if r.QoS == 2 {
		a.Type = codec.PUBREC
	}
	var fate Fate
	if r.QoS > 0 {
		fate = c.fate(a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if route && !code.IsError() {
		m := newMessage(r.Topic, r.Payload, r.QoS, r.Retain, r.Props)
		m.from = c.session
		s.publish(m)
	}
	if r.QoS > 0 {
		a.packet = codec.AppendAck(nil, c.version, a.Type, a.PacketID, code, nil)
		a.then = func() { c.acknowledged(a.Type, a.PacketID, in, code) }
		c.dispatch(a, fate)
	}
	return nil
}

// received copies the packet out of the frame and holds it against what the server announced.
func (c *client) received(v *codec.PublishView) (Received, error) {
	topic := string(v.Topic)
	if v.TopicAlias != 0 {
		if v.TopicAlias > c.announced.aliasMaximum {
			return Received{}, broken(codec.PUBLISH, codec.TopicAliasInvalid, "alias above our maximum [MQTT-3.3.2-9]")
		}
		if topic == "" {
			if topic = c.aliases[v.TopicAlias]; topic == "" {
				return Received{}, broken(codec.PUBLISH, codec.ProtocolError, "alias not set on this connection [MQTT-3.3.2-7]")
			}
		} else {
			if c.aliases == nil {
				c.aliases = make(map[uint16]string)
			}
			c.aliases[v.TopicAlias] = topic
		}
	}
	switch {
	case v.SubIDs > 0:
		return Received{}, broken(codec.PUBLISH, codec.ProtocolError, "Subscription Identifier from a client [MQTT-3.3.4-6]")
	case v.QoS > c.announced.maximumQoS:
		return Received{}, broken(codec.PUBLISH, codec.QoSNotSupported, "QoS above our maximum [MQTT-3.2.2-11]")
	case v.Retain && !c.announced.retain:
		return Received{}, broken(codec.PUBLISH, codec.RetainNotSupported, "retain is not available [MQTT-3.2.2-14]")
	}
	r := Received{ClientID: c.id, Link: c.number, At: time.Now(), PacketID: v.PacketID, Dup: v.Dup, QoS: v.QoS,
		Retain: v.Retain, Alias: v.TopicAlias, Topic: topic, Payload: bytes.Clone(v.Payload)}
	if len(v.Props) > 0 {
		r.Props = new(codec.Properties)
		v.Props.Decode(r.Props)
	}
	return r, nil
}

// admit decides what a PUBLISH is: new, or one seen before, and whether it is to be routed. The
// caller holds mu.
func (c *client) admit(r *Received) (in *incoming, route bool, err error) {
	if r.QoS == 0 {
		return nil, true, nil
	}
	hash := contentHash(r.Topic, r.Payload)
	in = c.session.in[r.PacketID]
	same := in != nil && in.qos == r.QoS && in.hash == hash
	// A finished exchange comes again only when its last answer may have been lost with a link.
	r.Resend = same && (in.state != done || (r.Dup && in.link != c.number))
	c.checkPublish(r, in, same)
	if err := c.checkQuota(r.PacketID); err != nil {
		return in, false, err
	}
	if r.Resend {
		in.link = c.number
		if r.QoS == 2 {
			return in, false, nil // [MQTT-4.3.3-10]
		}
		in.state = owed
		return in, true, nil
	}
	c.s.sequence++
	in = &incoming{qos: r.QoS, hash: hash, sequence: c.s.sequence, link: c.number}
	c.session.in[r.PacketID] = in
	return in, true, nil
}

// acknowledged notes that PUBACK, PUBREC or PUBCOMP is sent. The caller holds mu.
func (c *client) acknowledged(t codec.Type, id uint16, in *incoming, code codec.ReasonCode) {
	if t == codec.PUBREC && !code.IsError() {
		if in.state == owed {
			in.state = recorded
		}
		c.checks.recorded(id)
		return
	}
	in.state = done
	delete(c.checks.quota, id)
}

// onPubrel answers a PUBREL. An unknown identifier is no error (section 4.3.3): after a lost
// PUBCOMP the client is right to ask again.
func (c *client) onPubrel(p codec.Ack) {
	s := c.s
	s.mu.Lock()
	if c.gone() {
		s.mu.Unlock()
		return
	}
	in := c.session.in[p.PacketID]
	known := in != nil && in.qos == 2 && in.state != done
	if known {
		c.checkPubrel(p.PacketID, in)
		in.state, in.link = released, c.number
	}
	s.mu.Unlock()

	code := codec.Success
	if !known {
		code = codec.PacketIdentifierNotFound
	}
	a := Ack{Type: codec.PUBCOMP, PacketID: p.PacketID, Codes: []codec.ReasonCode{code}}
	if known {
		a.then = func() { c.acknowledged(codec.PUBCOMP, p.PacketID, in, codec.Success) }
	}
	c.answer(a, codec.AppendAck(nil, c.version, codec.PUBCOMP, p.PacketID, code, nil))
}

func contentHash(topic string, payload []byte) uint64 {
	h := fnv.New64a()
	h.Write([]byte(topic))
	h.Write([]byte{0}) // no topic holds it
	h.Write(payload)
	return h.Sum64()
}
