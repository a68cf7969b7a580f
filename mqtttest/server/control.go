package server

import (
	"bytes"

	"github.com/millrace/mqtt/codec"
)

// Publish sends a message as if another client had published it: to the subscribers, and into the
// retained messages if retain is set. The error says what cannot be published.
func (s *Server) Publish(topic string, payload []byte, qos byte, retain bool) error {
	return s.PublishMessage(codec.Publish{Topic: topic, Payload: payload, QoS: qos, Retain: retain})
}

// PublishMessage is [Server.Publish] with properties. PacketID and Dup are not looked at. payload
// and properties are copied as far as the server needs them.
func (s *Server) PublishMessage(p codec.Publish) error {
	p.Dup, p.PacketID = false, 1
	if p.QoS == 0 {
		p.PacketID = 0
	}
	if err := p.Check(codec.V5); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.publish(newMessage(p.Topic, bytes.Clone(p.Payload), p.QoS, p.Retain, p.Props))
	return nil
}

// RefuseConnects answers the next n CONNECTs with a code of 5.0, which 3.x clients get as the
// nearest return code; a negative n means all, zero ends it.
func (s *Server) RefuseConnects(n int, code codec.ReasonCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refusals{left: n, code: code}
}

// Cut breaks the connection of a client without a word; the session lives on. It reports whether
// the client was connected.
func (s *Server) Cut(clientID string) bool { return s.onClient(clientID, (*client).cut) }

// Disconnect ends the connection of a client, on 5.0 with a DISCONNECT that carries code, on 3.x
// by closing. It reports whether the client was connected.
func (s *Server) Disconnect(clientID string, code codec.ReasonCode) bool {
	return s.onClient(clientID, func(c *client) { c.disconnect(code) })
}

// Redeliver sends the open PUBLISHes of a client again on the live connection, with DUP, as some
// servers do after a time. It reports whether the client was connected.
func (s *Server) Redeliver(clientID string) bool {
	return s.onClient(clientID, func(c *client) {
		for _, o := range c.session.open {
			if !o.rel && !o.resend {
				s.sendAgain(c, o)
			}
		}
	})
}

// DropSession forgets all that the server keeps of a client and breaks its connection. The will is
// forgotten too. It reports whether there was a session.
func (s *Server) DropSession(clientID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[clientID]
	if sess == nil {
		return false
	}
	if sess.client != nil {
		sess.client.cut()
	}
	s.dropSession(sess)
	s.notify()
	return true
}

// Restart does to the clients what the restart of a server does: all connections break, and with
// keep false sessions and retained messages are gone, no will is sent. Dials succeed again at once;
// [Network.OnDial] can refuse them for a while.
func (s *Server) Restart(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.cut()
		if sess := c.session; sess != nil && sess.client == c {
			sess.will = nil // a server that died sends none
			s.detach(c, true)
		}
	}
	if !keep {
		for len(s.order) > 0 {
			s.dropSession(s.order[0])
		}
		s.forget()
	}
	s.notify()
}

// LinkOf returns the in-memory connection of a client for faults on it; nil when the client is not
// connected, or not over a [Network].
func (s *Server) LinkOf(clientID string) *Link {
	var l *Link
	s.onClient(clientID, func(c *client) {
		l = linkOf(c.conn)
	})
	return l
}

func (s *Server) onClient(clientID string, do func(*client)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[clientID]
	if sess == nil || sess.client == nil {
		return false
	}
	do(sess.client)
	return true
}
