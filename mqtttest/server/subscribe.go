package server

import (
	"slices"
	"strings"

	"github.com/millrace/mqtt/codec"
)

// A subscription belongs to one session. Guarded by Server.mu.
type subscription struct {
	codec.Subscription
	match string // the filter without $share/NAME/
	id    uint32 // Subscription Identifier, 0 = none
	link  int    // connection it was last made on
	group *group // nil unless shared
}

func (c *client) onSubscribe(f codec.Frame) error {
	var p codec.Subscribe
	if err := p.Decode(c.version, f.Body); err != nil {
		return err
	}
	var subID uint32
	if p.Props != nil && len(p.Props.SubscriptionIDs) > 0 {
		subID = p.Props.SubscriptionIDs[0]
	}
	if err := c.allowed(&p, subID); err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	c.checkRequest(f.Type, p.PacketID)
	hook := s.cfg.OnSubscribe
	s.mu.Unlock()
	codes := make([]codec.ReasonCode, len(p.Subscriptions))
	for i, sub := range p.Subscriptions {
		codes[i] = c.grant(sub, hook)
	}
	packet, err := codec.AppendSuback(nil, c.version, &codec.Suback{PacketID: p.PacketID, Codes: codes})
	if err != nil {
		return err
	}
	a := Ack{Type: codec.SUBACK, PacketID: p.PacketID, Codes: codes, packet: packet, then: func() { delete(c.checks.requests, p.PacketID) }}
	fate := c.fate(a)

	s.mu.Lock()
	defer s.mu.Unlock()
	if c.gone() {
		return errTakenOver
	}
	c.dispatch(a, fate)
	for i, sub := range p.Subscriptions {
		if !codes[i].IsError() {
			sub.QoS = byte(codes[i])
			s.subscribe(c, sub, subID)
		}
	}
	s.notify()
	return nil
}

// allowed holds a SUBSCRIBE against what the CONNACK said, section 3.2.2.3.
func (c *client) allowed(p *codec.Subscribe, subID uint32) error {
	if subID != 0 && !c.announced.subIDs {
		return broken(codec.SUBSCRIBE, codec.SubscriptionIdentifiersNotSupported, "identifiers are not available")
	}
	for _, sub := range p.Subscriptions {
		shared := strings.HasPrefix(sub.Filter, "$share/")
		switch {
		case shared && !c.announced.shared:
			return broken(codec.SUBSCRIBE, codec.SharedSubscriptionsNotSupported, "shared subscriptions are not available")
		case shared && sub.NoLocal:
			return broken(codec.SUBSCRIBE, codec.ProtocolError, "No Local on a shared subscription [MQTT-3.8.3-4]")
		case strings.ContainsAny(sub.Filter, "+#") && !c.announced.wildcards:
			return broken(codec.SUBSCRIBE, codec.WildcardSubscriptionsNotSupported, "wildcards are not available")
		}
	}
	return nil
}

func (c *client) grant(sub codec.Subscription, hook func(string, codec.Subscription) codec.ReasonCode) codec.ReasonCode {
	code := codec.ReasonCode(sub.QoS)
	if hook != nil {
		code = hook(c.id, sub)
	}
	if code.IsError() && c.version != codec.V5 {
		return codec.UnspecifiedError // the only error of 3.x
	}
	return code
}

// subscribe makes or replaces one subscription and sends what is retained. The caller holds mu.
func (s *Server) subscribe(c *client, sub codec.Subscription, id uint32) {
	sess := c.session
	made := &subscription{Subscription: sub, match: sub.Filter, id: id, link: c.number}
	at := sess.find(sub.Filter)
	if at < 0 {
		sess.subs = append(sess.subs, made)
	} else {
		s.countResubscribe(sess.subs[at], made)
		s.leaveGroup(sess, sess.subs[at])
		sess.subs[at] = made // [MQTT-3.8.4-3]
	}
	if rest, ok := strings.CutPrefix(sub.Filter, "$share/"); ok {
		_, made.match, _ = strings.Cut(rest, "/")
		s.joinGroup(sess, made)
		return // nothing retained for shared subscriptions, section 4.8.2
	}
	if sub.RetainHandling == 0 || (sub.RetainHandling == 1 && at < 0) {
		s.sendRetained(sess, made)
	}
}

// countResubscribe counts a subscription made again unchanged on a later connection, which a client
// may do to be sure. On the same one it asks for the retained messages once more.
func (s *Server) countResubscribe(old, made *subscription) {
	if old.Subscription == made.Subscription && old.id == made.id && old.link != made.link {
		s.log.stats.Resubscribes++
	}
}

func (c *client) onUnsubscribe(f codec.Frame) error {
	var p codec.Unsubscribe
	if err := p.Decode(c.version, f.Body); err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	c.checkRequest(f.Type, p.PacketID)
	hook := s.cfg.OnUnsubscribe
	s.mu.Unlock()
	codes := make([]codec.ReasonCode, len(p.Filters))
	if hook != nil {
		for i, filter := range p.Filters {
			codes[i] = hook(c.id, filter)
		}
	}
	s.mu.Lock()
	if c.gone() {
		s.mu.Unlock()
		return errTakenOver
	}
	for i, filter := range p.Filters {
		if !codes[i].IsError() && !s.unsubscribe(c.session, filter) {
			codes[i] = codec.NoSubscriptionExisted
		}
	}
	s.notify()
	s.mu.Unlock()
	packet, err := codec.AppendUnsuback(nil, c.version, &codec.Unsuback{PacketID: p.PacketID, Codes: codes})
	if err != nil {
		return err
	}
	c.answer(Ack{Type: codec.UNSUBACK, PacketID: p.PacketID, Codes: codes,
		then: func() { delete(c.checks.requests, p.PacketID) }}, packet)
	return nil
}

// unsubscribe reports whether there was one. The caller holds mu.
func (s *Server) unsubscribe(sess *session, filter string) bool {
	at := sess.find(filter)
	if at < 0 {
		return false
	}
	s.leaveGroup(sess, sess.subs[at])
	sess.subs = slices.Delete(sess.subs, at, at+1)
	return true
}

func (sess *session) find(filter string) int {
	return slices.IndexFunc(sess.subs, func(sub *subscription) bool { return sub.Filter == filter })
}
