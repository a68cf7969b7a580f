package server

import (
	"fmt"
	"slices"

	"github.com/millrace/mqtt/codec"
)

// conformance is what the checks of one connection remember. Guarded by Server.mu.
type conformance struct {
	quota    map[uint16]bool       // PUBLISHes of the client that count against our Receive Maximum
	requests map[uint16]codec.Type // SUBSCRIBE and UNSUBSCRIBE not yet answered
	fresh    bool                  // a PUBLISH of QoS 1 or 2 was new on this connection
	lastSeen int                   // sequence of the last resend
	recs     []uint16              // PUBRECs sent whose PUBREL is to come
	due      [3][]uint16           // by QoS: PUBLISHes sent whose PUBACK or PUBREC is to come
	sent     map[uint16]bool       // packet identifiers of our PUBLISHes
	doubled  bool                  // we sent a PUBLISH again: two answers are no fault of the client
}

func newConformance() conformance {
	return conformance{
		quota:    make(map[uint16]bool),
		requests: make(map[uint16]codec.Type),
		sent:     make(map[uint16]bool),
	}
}

// violate writes down a fault of the client.
func (c *client) violate(format string, args ...any) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.violation(c, format, args...)
}

// violation is violate for a caller that holds mu.
func (s *Server) violation(c *client, format string, args ...any) {
	text := fmt.Sprintf("client %q, connection %d: ", c.id, c.number) + fmt.Sprintf(format, args...)
	s.log.violations = appendBounded(s.log.violations, text, s.logEntries())
	s.notify()
}

// checkPublish looks at identifier, DUP and order of a PUBLISH of QoS 1 or 2 before it is admitted;
// in is what its identifier meant before.
func (c *client) checkPublish(r *Received, in *incoming, same bool) {
	s, id, live := c.s, r.PacketID, in != nil && in.link == c.number
	open := in != nil && in.state != done
	switch {
	case c.checks.requests[id] != 0:
		s.violation(c, "PUBLISH takes packet identifier %d of an open %v [MQTT-2.2.1-3]", id, c.checks.requests[id])
	case open && live && same && r.Dup:
		s.violation(c, "PUBLISH %d sent again on a live connection [MQTT-4.4.0-1]", id)
	case open && (live || !same):
		s.violation(c, "PUBLISH takes packet identifier %d while its exchange is open [MQTT-2.2.1-3]", id)
	case same && r.QoS == 2 && (in.state == released || (in.state == done && r.Dup)):
		s.violation(c, "PUBLISH %d sent again after its PUBREL [MQTT-4.3.3-6]", id)
	case open && !r.Dup:
		s.violation(c, "PUBLISH %d sent again without DUP [MQTT-3.3.1-1]", id)
	case same && live && r.Dup:
		s.violation(c, "PUBLISH %d sent again after its PUBACK [MQTT-4.4.0-1]", id)
	case !r.Resend && r.Dup && c.number == 1:
		s.violation(c, "PUBLISH %d has DUP at its first sending [MQTT-4.3.2-2, -4.3.3-2]", id)
	}
	c.checkResendOrder(r, in)
}

// checkResendOrder: resends keep their order and come before anything new [MQTT-4.6.0-1].
func (c *client) checkResendOrder(r *Received, in *incoming) {
	switch {
	case !r.Dup && !r.Resend:
		c.checks.fresh = true
		return
	case in != nil && in.link == c.number:
		return // what is wrong with it is told
	case c.checks.fresh:
		c.s.violation(c, "PUBLISH %d sent again behind a new PUBLISH [MQTT-4.6.0-1]", r.PacketID)
	case r.Resend && in.sequence < c.checks.lastSeen:
		c.s.violation(c, "PUBLISH %d sent again out of its order [MQTT-4.6.0-1]", r.PacketID)
	}
	if r.Resend {
		c.checks.lastSeen = max(c.checks.lastSeen, in.sequence)
	}
}

// checkQuota counts a PUBLISH against the Receive Maximum that the server announced.
func (c *client) checkQuota(id uint16) error {
	c.checks.quota[id] = true
	if c.version == codec.V5 && len(c.checks.quota) > c.announced.receiveMaximum {
		return broken(codec.PUBLISH, codec.ReceiveMaximumExceeded, "more unacknowledged than our Receive Maximum [MQTT-3.3.4-7]")
	}
	return nil
}

func (k *conformance) recorded(id uint16) {
	if !slices.Contains(k.recs, id) {
		k.recs = append(k.recs, id)
	}
}

// checkPubrel: PUBRELs come in the order of the PUBRECs [MQTT-4.6.0-4], and none before its PUBREC.
func (c *client) checkPubrel(id uint16, in *incoming) {
	at := slices.Index(c.checks.recs, id)
	switch {
	case at > 0:
		c.s.violation(c, "PUBREL %d before PUBREL %d, whose PUBREC was first [MQTT-4.6.0-4]", id, c.checks.recs[0])
	case in.state == owed:
		c.s.violation(c, "PUBREL %d without a PUBREC [MQTT-4.3.3-4]", id)
	case at < 0 && in.link != c.number && c.checks.fresh:
		c.s.violation(c, "PUBREL %d sent again behind a new PUBLISH [MQTT-4.6.0-1]", id)
	}
	if at >= 0 {
		c.checks.recs = slices.Delete(c.checks.recs, at, at+1)
	}
}

// publishing notes that a PUBLISH was sent to the client, which owes an answer now.
func (k *conformance) publishing(id uint16, qos byte) {
	k.sent[id] = true
	if !slices.Contains(k.due[qos], id) {
		k.due[qos] = append(k.due[qos], id)
	}
}

// checkAnswer: PUBACKs and PUBRECs come once, in the order of the PUBLISHes [MQTT-4.6.0-2, -3].
func (c *client) checkAnswer(t codec.Type, id uint16, qos byte) {
	due := c.checks.due[qos]
	at := slices.Index(due, id)
	switch {
	case !c.checks.sent[id]:
		c.s.violation(c, "%v %d for a PUBLISH that this connection has not seen", t, id)
	case at < 0 && !c.checks.doubled:
		c.s.violation(c, "%v %d although nothing is owed", t, id)
	case at > 0:
		clause := "[MQTT-4.6.0-2]"
		if qos == 2 {
			clause = "[MQTT-4.6.0-3]"
		}
		c.s.violation(c, "%v %d before %v %d, whose PUBLISH was first %s", t, id, t, due[0], clause)
	}
	if at >= 0 {
		c.checks.due[qos] = slices.Delete(due, at, at+1)
	}
}

// checkRequest notes that id belongs to a SUBSCRIBE or UNSUBSCRIBE until its answer is sent.
func (c *client) checkRequest(t codec.Type, id uint16) {
	if c.gone() {
		return
	}
	in := c.session.in[id]
	if c.checks.requests[id] != 0 || (in != nil && in.state != done) {
		c.s.violation(c, "%v takes packet identifier %d, which is in use [MQTT-2.2.1-3]", t, id)
	}
	c.checks.requests[id] = t
}
