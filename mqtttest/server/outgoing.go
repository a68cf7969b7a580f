package server

import (
	"math"
	"slices"

	"github.com/millrace/mqtt/codec"
)

// An outgoing is a QoS 1 or 2 message on its way to one session. Guarded by Server.mu.
type outgoing struct {
	m       *message
	qos     byte
	retain  bool
	subIDs  []uint32
	id      uint16 // 0 while queued
	rel     bool   // PUBREC came: PUBREL is what is owed
	resend  bool   // not yet sent on this connection
	counted bool   // in the client's inflight
}

// deliver gives m to a session. The caller holds mu.
func (s *Server) deliver(sess *session, m *message, qos byte, retain bool, subIDs []uint32) {
	if qos > 0 {
		sess.queued = append(sess.queued, &outgoing{m: m, qos: qos, retain: retain, subIDs: subIDs})
		s.pump(sess)
		return
	}
	c := sess.client
	if c == nil || !c.live || m.expired() {
		return // section 3.1.2.4 leaves QoS 0 out of the session
	}
	packet := c.encode(&outgoing{m: m, retain: retain, subIDs: subIDs}, false)
	if packet == nil {
		return
	}
	if len(c.out)+len(packet) > positiveOr(s.cfg.QoS0Bytes, DefaultQoS0Bytes) {
		s.log.stats.DroppedQoS0++
		return
	}
	c.send(packet)
}

// encode returns the PUBLISH for c, nil when it is larger than c takes [MQTT-3.1.2-24].
func (c *client) encode(o *outgoing, dup bool) []byte {
	p := codec.Publish{Dup: dup, QoS: o.qos, Retain: o.retain, PacketID: o.id, Topic: o.m.topic,
		Payload: o.m.payload, Props: o.m.outProps(c.version, o.subIDs)}
	if c.maxPacket > 0 && codec.PublishSize(c.version, &p) > c.maxPacket {
		c.s.log.stats.TooLarge++
		return nil
	}
	return codec.AppendPublish(nil, c.version, &p)
}

// resume opens c for messages: first what an earlier connection left open, in its order
// [MQTT-4.4.0-1], then what waits. The caller holds mu.
func (s *Server) resume(sess *session, c *client) {
	if c.live {
		return
	}
	c.live, c.resending = true, true
	for _, o := range sess.open {
		o.resend, o.counted = true, false
	}
	for _, a := range c.early {
		a.transmit(a.extra)
	}
	c.early = nil
	s.pump(sess)
}

// pump sends what the client's window has room for. The caller holds mu.
func (s *Server) pump(sess *session) {
	c := sess.client
	if c == nil || !c.live || !s.pumpResends(sess, c) {
		return
	}
	for len(sess.queued) > 0 && c.inflight < c.window && len(sess.open) < math.MaxUint16 {
		o := sess.queued[0]
		sess.queued = sess.queued[1:]
		if o.m.expired() {
			s.log.stats.Expired++
			continue
		}
		o.id = sess.nextID()
		if s.sendPublish(c, o, false) {
			sess.open = append(sess.open, o)
			sess.byID[o.id] = o
		}
	}
}

// pumpResends reports whether nothing of an earlier connection is left to send.
func (s *Server) pumpResends(sess *session, c *client) bool {
	if !c.resending {
		return true
	}
	for _, o := range slices.Clone(sess.open) {
		switch {
		case !o.resend:
		case o.rel:
			o.resend = false
			c.send(codec.AppendAck(nil, c.version, codec.PUBREL, o.id, codec.Success, nil))
		case c.inflight >= c.window:
			return false
		case !s.sendPublish(c, o, true):
			sess.complete(c, o)
		}
	}
	c.resending = false
	return true
}

func (s *Server) sendPublish(c *client, o *outgoing, dup bool) bool {
	packet := c.encode(o, dup)
	if packet == nil {
		return false
	}
	if !o.counted {
		o.counted = true
		c.inflight++
	}
	o.resend = false
	c.checks.publishing(o.id, o.qos)
	c.send(packet)
	if s.cfg.Duplicate {
		s.sendAgain(c, o)
	}
	return true
}

// sendAgain sends a PUBLISH once more on a live connection.
func (s *Server) sendAgain(c *client, o *outgoing) {
	c.checks.doubled = true
	if packet := c.encode(o, true); packet != nil {
		c.checks.publishing(o.id, o.qos)
		c.send(packet)
	}
}

func (sess *session) nextID() uint16 {
	for {
		sess.lastID++
		if sess.lastID != 0 && sess.byID[sess.lastID] == nil {
			return sess.lastID
		}
	}
}

// complete ends an exchange.
func (sess *session) complete(c *client, o *outgoing) {
	delete(sess.byID, o.id)
	if at := slices.Index(sess.open, o); at >= 0 {
		sess.open = slices.Delete(sess.open, at, at+1)
	}
	if o.counted {
		c.inflight--
	}
}

// onAck takes PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *client) onAck(f codec.Frame) error {
	var p codec.Ack
	if err := p.Decode(c.version, f.Type, f.Body); err != nil {
		return err
	}
	switch f.Type {
	case codec.PUBREL:
		c.onPubrel(p)
		return nil
	case codec.PUBREC:
		return c.onPubrec(p)
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.gone() {
		return errTakenOver
	}
	sess := c.session
	o := sess.byID[p.PacketID]
	if f.Type == codec.PUBACK {
		if o != nil && o.qos != 1 {
			return broken(f.Type, codec.ProtocolError, "PUBACK for a QoS 2 PUBLISH")
		}
		c.checkAnswer(f.Type, p.PacketID, 1)
	} else if o != nil && !o.rel {
		return broken(f.Type, codec.ProtocolError, "PUBCOMP before PUBREL")
	}
	if o != nil {
		sess.complete(c, o)
		c.s.pump(sess)
		c.s.notify()
	}
	return nil
}

// onPubrec answers a PUBREC with PUBREL, or ends the exchange when it carries an error.
func (c *client) onPubrec(p codec.Ack) error {
	s := c.s
	s.mu.Lock()
	if c.gone() {
		s.mu.Unlock()
		return errTakenOver
	}
	o := c.session.byID[p.PacketID]
	if o != nil && o.qos != 2 {
		s.mu.Unlock()
		return broken(codec.PUBREC, codec.ProtocolError, "PUBREC for a QoS 1 PUBLISH")
	}
	c.checkAnswer(codec.PUBREC, p.PacketID, 2)
	code := codec.Success
	switch {
	case o == nil:
		code = codec.PacketIdentifierNotFound
	case p.Code.IsError():
		c.session.complete(c, o)
		s.pump(c.session)
	default:
		o.rel = true
	}
	s.notify()
	s.mu.Unlock()
	if p.Code.IsError() {
		return nil // [MQTT-4.3.3-4]: no PUBREL
	}
	a := Ack{Type: codec.PUBREL, PacketID: p.PacketID, Codes: []codec.ReasonCode{code}}
	c.answer(a, codec.AppendAck(nil, c.version, codec.PUBREL, p.PacketID, code, nil))
	return nil
}
