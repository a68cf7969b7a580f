package server

import (
	"math"
	"time"

	"github.com/millrace/mqtt/codec"
)

// A session is what the server keeps of a client identifier, section 4.1. Guarded by Server.mu.
type session struct {
	id      string
	version codec.Version
	client  *client // nil while no client is connected
	links   int     // connections so far
	expiry  uint32  // seconds after the last connection; MaxUint32 = never

	subs []*subscription // in the order they were made

	// Outgoing QoS 1 and 2: open have a packet identifier and keep their order, queued have none.
	open   []*outgoing
	byID   map[uint16]*outgoing // the same as open
	queued []*outgoing
	lastID uint16

	in map[uint16]*incoming

	will      *codec.Will
	willTimer *timer
	endTimer  *timer
}

// attach gives c its session, after it took it from an earlier connection. The caller holds mu.
func (s *Server) attach(c *client, p *codec.Connect, expiry uint32) (sess *session, present bool) {
	sess = s.sessions[p.ClientID]
	if sess != nil && sess.client != nil {
		old := sess.client
		old.disconnect(codec.SessionTakenOver) // [MQTT-3.1.4-3]
		s.detach(old, false)
		sess = s.sessions[p.ClientID]
	}
	if sess != nil && p.CleanStart {
		s.endSession(sess)
		sess = nil
	}
	if present = sess != nil; !present {
		sess = &session{id: p.ClientID, in: make(map[uint16]*incoming), byID: make(map[uint16]*outgoing)}
		s.sessions[sess.id] = sess
		s.order = append(s.order, sess)
	}
	sess.stopTimers(s)
	sess.version, sess.expiry, sess.will = p.Version, expiry, p.Will
	sess.client, c.session = c, sess
	sess.links++
	c.number = sess.links
	return sess, present
}

// detach ends the session's connection c, if c still is that: the will is sent or forgotten, and
// the session's last time begins. The caller holds mu.
func (s *Server) detach(c *client, graceful bool) {
	sess := c.session
	if sess == nil || sess.client != c {
		return
	}
	sess.client = nil
	if graceful {
		sess.will = nil
	}
	if will := sess.will; will != nil {
		if will.Props.Has(codec.PropWillDelayInterval) && will.Props.WillDelay > 0 {
			sess.willTimer = s.after(time.Duration(will.Props.WillDelay)*time.Second, func() { s.sendWill(sess) })
		} else {
			s.sendWill(sess)
		}
	}
	switch sess.expiry {
	case 0:
		s.endSession(sess)
	case math.MaxUint32:
	default:
		sess.endTimer = s.after(time.Duration(sess.expiry)*time.Second, func() { s.endSession(sess) })
	}
	s.notify()
}

// endSession forgets the session; a will still waiting goes out first [MQTT-3.1.2-8].
func (s *Server) endSession(sess *session) {
	if s.sessions[sess.id] != sess {
		return
	}
	if sess.client == nil {
		s.sendWill(sess)
	}
	s.dropSession(sess)
}

// dropSession forgets the session without a will. The caller holds mu.
func (s *Server) dropSession(sess *session) {
	sess.stopTimers(s)
	delete(s.sessions, sess.id)
	for i, other := range s.order {
		if other == sess {
			s.order = append(s.order[:i:i], s.order[i+1:]...)
			break
		}
	}
	for _, sub := range sess.subs {
		s.leaveGroup(sess, sub)
	}
	sess.client, sess.will = nil, nil
}

func (s *Server) sendWill(sess *session) {
	will := sess.will
	if will == nil {
		return
	}
	sess.will = nil
	m := newMessage(will.Topic, will.Payload, will.QoS, will.Retain, will.Props)
	m.from = sess
	s.publish(m)
}

func (sess *session) stopTimers(s *Server) {
	s.stop(sess.willTimer)
	s.stop(sess.endTimer)
	sess.willTimer, sess.endTimer = nil, nil
}
