package mqtt

import (
	"errors"
	"time"

	"github.com/millrace/mqtt/codec"
)

const (
	// flapTime is the moment within which the death of a link after sending
	// makes a message suspect.
	flapTime = time.Second
	// flapLimit is how many links a message may kill before it is set aside,
	// and how many times a message may make us close the link.
	flapLimit = 3
)

// learn notes what the death of l says about the messages that it carried.
func (s *supervisor) learn(l *link, err error) {
	s.learnInbound(err)
	_, ours := errors.AsType[*ProtocolError](err)
	if _, disk := errors.AsType[*StoreError](err); disk || ours || errors.Is(err, errLocalClose) || time.Since(l.began) > flapTime {
		s.flaps = 0
		return
	}
	s.flaps++
	if topic, id, found := s.c.out.suspect(flapLimit); found {
		s.flaps = 0
		s.c.emit(PublishSetAside{Topic: topic, PacketID: id})
	}
}

// learnInbound counts links that died of the same protocol error in a row. A
// server that goes beyond our Receive Maximum, again and again, delivers all the
// same as long as each link brings some exchange further.
func (s *supervisor) learnInbound(err error) {
	p, ok := errors.AsType[*ProtocolError](err)
	switch {
	case !ok, errors.Is(err, errDisconnect3), exceededMaximum(err) && s.c.ledger.progress():
		s.poison, s.poisoned = "", 0
	case p.Error() == s.poison:
		s.poisoned++
	default:
		s.poison, s.poisoned = p.Error(), 1
	}
}

// exceededMaximum reports whether a link ended because the server sent more than
// our Receive Maximum allows [MQTT-3.3.4-9].
func exceededMaximum(err error) bool {
	p, ok := errors.AsType[*ProtocolError](err)
	return ok && p.Code == codec.ReceiveMaximumExceeded
}
