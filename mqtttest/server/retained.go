package server

import (
	"maps"
	"slices"
)

// keep stores m for its topic; an empty payload clears it [MQTT-3.3.1-5, -6, -7].
func (s *Server) keep(m *message) {
	if len(m.payload) == 0 {
		delete(s.retained, m.topic)
		return
	}
	s.retained[m.topic] = m
}

// sendRetained gives a new subscription what is retained, in the order of the topics, with the
// retain flag set [MQTT-3.3.1-8].
func (s *Server) sendRetained(sess *session, sub *subscription) {
	for _, topic := range slices.Sorted(maps.Keys(s.retained)) {
		m := s.retained[topic]
		switch {
		case !matches(sub.match, topic):
		case m.expired():
			delete(s.retained, topic)
		default:
			var ids []uint32
			if sub.id != 0 {
				ids = []uint32{sub.id}
			}
			s.deliver(sess, m, min(sub.QoS, m.qos), true, ids)
		}
	}
}
