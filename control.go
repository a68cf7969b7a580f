package mqtt

import (
	"fmt"
	"time"

	"github.com/millrace/mqtt/codec"
)

// control is a SUBSCRIBE or UNSUBSCRIBE in flight. encode and dropped are
// called under outbound's lock; answered without it, by the window's goroutine.
type control struct {
	packet   codec.Type
	encode   func(dst []byte, v Version, id uint16) []byte
	answered func(link uint32, codes []codec.ReasonCode, a *answer) error // an error ends the link
	wrong    func(error)                                                  // answered by another kind of packet: the link ends; may be nil
	dropped  func()                                                       // the link ended first; may be nil
	filter   string                                                       // when it has one only

	// Guarded by outbound.mu.
	sent         time.Time // zero while it waits
	answeredLast bool      // its answer came just before the link ended
}

func (c *control) drop() {
	if c.dropped != nil {
		c.dropped()
	}
}

// answer is the type of packet that answers c.
func (c *control) answer() codec.Type {
	if c.packet == codec.SUBSCRIBE {
		return codec.SUBACK
	}
	return codec.UNSUBACK
}

// ackFact is one acknowledgement as the reader saw it.
type ackFact struct {
	answer *answer // reason string and user properties, rarely there
	codes  []codec.ReasonCode
	id     uint16
	typ    codec.Type
	code   codec.ReasonCode
}

// ofControl reports whether f answers a SUBSCRIBE or UNSUBSCRIBE.
func (f *ackFact) ofControl() bool { return f.typ == codec.SUBACK || f.typ == codec.UNSUBACK }

// controlAnswer is a control exchange whose answer came.
type controlAnswer struct {
	ctl   *control
	fact  ackFact
	wrong bool // it is of another kind
}

// take hands the answer to its owner; an error ends the link.
func (a *controlAnswer) take(link uint32) error {
	if !a.wrong {
		return a.ctl.answered(link, a.fact.codes, a.fact.answer)
	}
	err := wrongAck(a.fact.typ)
	if a.ctl.wrong != nil {
		a.ctl.wrong(err)
	}
	return err
}

// misanswerLimit is how many links may end for wrong answers to one exchange. An
// acknowledgement of a kind that the exchange cannot have ends the link (section 4.8 of
// 3.1.1, 4.13 of 5.0), and what was sent is sent again on the next; beyond the limit the
// exchange is given up alone, so that the Conn goes on.
const misanswerLimit = 3

// misanswered is why an exchange is given up.
func misanswered(detail string) error {
	return fmt.Errorf("%w on %d links%s", ErrWrongAck, misanswerLimit, detail)
}
