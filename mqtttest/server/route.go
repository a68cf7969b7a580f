package server

import "strings"

// publish keeps a retained message and gives m to every session that wants it, in the order the
// sessions were made. The caller holds mu.
func (s *Server) publish(m *message) {
	if m.retain {
		s.keep(m)
	}
	for _, sess := range s.order {
		s.route(sess, m)
	}
	for _, g := range s.groups {
		if matches(g.match, m.topic) {
			sess := g.next()
			s.deliverTo(sess, m, sess.subs[sess.find(g.filter)])
		}
	}
}

// route serves the subscriptions of one session that are not shared: one copy with all identifiers
// and the highest QoS, or a copy each; section 3.3.4 allows both.
func (s *Server) route(sess *session, m *message) {
	var qos byte
	var retain, any bool
	var ids []uint32
	for _, sub := range sess.subs {
		if sub.group != nil || !matches(sub.match, m.topic) || (sub.NoLocal && m.from == sess) {
			continue
		}
		if s.cfg.CopyPerSubscription {
			s.deliverTo(sess, m, sub)
			continue
		}
		any = true
		qos = max(qos, min(sub.QoS, m.qos))
		retain = retain || (sub.RetainAsPublished && m.retain)
		if sub.id != 0 {
			ids = append(ids, sub.id)
		}
	}
	if any {
		s.deliver(sess, m, qos, retain, ids)
	}
}

func (s *Server) deliverTo(sess *session, m *message, sub *subscription) {
	var ids []uint32
	if sub.id != 0 {
		ids = []uint32{sub.id}
	}
	s.deliver(sess, m, min(sub.QoS, m.qos), sub.RetainAsPublished && m.retain, ids)
}

// matches reports whether filter takes topic, section 4.7; a leading wildcard does not take a
// topic that begins with "$" [MQTT-4.7.2-1].
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		level, filterRest, filterMore := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, topicRest, topicMore := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		switch {
		case !filterMore && !topicMore:
			return true
		case !topicMore:
			return filterRest == "#" // "a/#" takes "a" too
		case !filterMore:
			return false
		}
		filter, topic = filterRest, topicRest
	}
}
