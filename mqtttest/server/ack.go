package server

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Ack is an answer of the server to a packet of a client: CONNACK, PUBACK, PUBREC, PUBREL,
// PUBCOMP, SUBACK, UNSUBACK or PINGRESP.
type Ack struct {
	ClientID string             // of the client that gets it
	Type     codec.Type         // of the packet
	PacketID uint16             // 0 in CONNACK and PINGRESP
	Codes    []codec.ReasonCode // one, or one for each filter; none in PINGRESP and CONNACK

	c      *client
	packet []byte
	then   func() // what the server takes for done once the packet is sent; under mu, may be nil
}

// String says what it is: "PUBACK 7".
func (a Ack) String() string { return fmt.Sprintf("%v %d", a.Type, a.PacketID) }

// Fate is what becomes of an [Ack]. The zero value sends it at once. What is not sent has not
// happened in the eyes of the server's checks: the packet identifier stays taken.
type Fate struct {
	Withhold bool          // never send it
	Delay    time.Duration // send it later; others may overtake it
	Extra    int           // send it so many times more
}

// fate asks the hook. It runs on the reader, without the lock.
func (c *client) fate(a Ack) Fate {
	c.s.mu.Lock()
	hook := c.s.cfg.OnAck
	c.s.mu.Unlock()
	if hook == nil {
		return Fate{}
	}
	a.ClientID = c.id
	return hook(a)
}

// answer asks what becomes of an answer and dispatches it.
func (c *client) answer(a Ack, packet []byte) {
	fate := c.fate(a)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	a.packet = packet
	c.dispatch(a, fate)
}

// dispatch sends, holds or delays an answer. The caller holds mu.
func (c *client) dispatch(a Ack, fate Fate) {
	a.ClientID, a.c = c.id, c
	switch s := c.s; {
	case fate.Withhold:
	case s.hold[a.Type]:
		s.held = append(s.held, a)
		s.notify()
	case fate.Delay > 0:
		s.transmitLater(a, fate)
	default:
		a.transmit(fate.Extra)
	}
}

// A delayedAck waits for its time, or for the CONNACK before it.
type delayedAck struct {
	Ack
	at    time.Time
	extra int
}

// transmitLater keeps the order of answers that are due at the same moment, which the timers alone
// would not. The caller holds mu.
func (s *Server) transmitLater(a Ack, fate Fate) {
	d := delayedAck{Ack: a, at: time.Now().Add(fate.Delay), extra: fate.Extra}
	at := len(s.delayed)
	for at > 0 && s.delayed[at-1].at.After(d.at) {
		at--
	}
	s.delayed = slices.Insert(s.delayed, at, d)
	s.after(fate.Delay, func() {
		for len(s.delayed) > 0 && !s.delayed[0].at.After(time.Now()) {
			due := s.delayed[0]
			s.delayed = s.delayed[1:]
			due.transmit(due.extra)
		}
	})
}

// transmit sends the answer on the connection it belongs to, if that is still there. The caller
// holds mu.
func (a Ack) transmit(extra int) {
	if a.c.ending || a.c.session.client != a.c {
		return
	}
	if a.Type != codec.CONNACK && !a.c.live {
		a.c.early = append(a.c.early, delayedAck{Ack: a, extra: extra}) // [MQTT-3.2.0-1]
		return
	}
	for range extra + 1 {
		a.c.send(a.packet)
	}
	if a.then != nil {
		a.then()
	}
}

// Hold keeps answers of these types back from now on, on all connections; those of other types
// overtake them.
func (s *Server) Hold(types ...codec.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range types {
		s.hold[t] = true
	}
}

// Held returns how many answers are kept back.
func (s *Server) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

// Release ends Hold and sends what was kept back, as arranged: arrange gets it in its order and
// returns it in any order; what it leaves out is never sent, what it repeats is sent again. nil
// sends all in order. Answers whose connection has ended are dropped. arrange runs without the
// server's lock.
func (s *Server) Release(arrange func([]Ack) []Ack) {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	if arrange != nil {
		held = arrange(held)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.hold)
	for _, a := range append(held, s.held...) { // what came meanwhile goes last
		a.transmit(0)
	}
	s.held = nil
}
