package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

const (
	// flapTime is how young a link dies that makes packets suspect, how long a
	// link that probes them is watched before the first is sent, and within what
	// time a link must die of a packet to have died of it.
	flapTime = time.Second
	// flapProbe is how many links in a row die young before the next one probes.
	flapProbe = 2
	// flapLimit is how many probing links in a row a packet may kill before it is
	// set aside, and how many times a message may make us close the link.
	flapLimit = 3
)

// learn notes what the death of l says about the packets that it carried.
//
// That a link dies with packets unanswered says little: networks cut links, and
// an innocent message that is the only one is in flight each time. So after two
// links that died young the next probes (see probe.go): it carries nothing of the
// application for flapTime, then one packet at a time. When it dies in the quiet, or
// long after a packet, the network did it; when it dies at once on a packet, three
// times in a row, the packet did. Between being sent and being answered an innocent
// one is there for a round trip only.
//
// So a packet that the server cuts at costs six links at most: the one that carried
// it first, two that die young and three that probe. Each further one costs three,
// since the links behind it go on probing.
func (s *supervisor) learn(l *link, err error) {
	s.learnInbound(err)
	answer := mayBeAnswer(err)
	switch v := s.c.out.weigh(&l.sender, answer, flapLimit); {
	case v.aside:
		s.flaps = flapProbe // the next link probes the rest
		s.setAside(&v, err)
	case v.suspected: // the next link probes too
	case v.cleared, !answer, time.Since(l.began) > flapTime:
		s.flaps = 0
	default:
		s.flaps++
	}
}

// setAside carries out that the packet of v is not sent any more, and tells of it.
func (s *supervisor) setAside(v *suspicion, err error) {
	c := s.c
	if v.packet != codec.PUBLISH {
		s.setFilterAside(v.suspect, err)
		return
	}
	c.emit(PublishSetAside{Topic: v.topic, Key: v.key, PacketID: v.id, Err: err})
	c.record(slog.LevelWarn, "publish set aside", "client", c.ClientID(), "topic", v.topic, "key", v.key, "error", err)
}

// mayBeAnswer reports whether the server may have ended a link for what it was
// sent, as far as err tells.
func mayBeAnswer(err error) bool {
	if isDisconnect(err) {
		return !ownReason(err)
	}
	_, ours := errors.AsType[*ProtocolError](err)
	_, disk := errors.AsType[*StoreError](err)
	_, mute := errors.AsType[*noRoomError](err)
	return !ours && !disk && !mute && !errors.Is(err, errLocalClose) && !errors.Is(err, ErrKeepAlive) && !errors.Is(err, context.DeadlineExceeded)
}

// isDisconnect reports whether err is a DISCONNECT of the server, well-formed or not.
func isDisconnect(err error) bool {
	if e, ok := errors.AsType[*ReasonError](err); ok {
		return e.Packet == codec.DISCONNECT
	}
	if e, ok := errors.AsType[*codec.Error](err); ok && e.Type == codec.DISCONNECT {
		return true
	}
	return errors.Is(err, errOddDisconnect)
}

// ownReason reports whether err is a DISCONNECT for a reason of the server's own.
func ownReason(err error) bool {
	e, ok := errors.AsType[*ReasonError](err)
	return ok && slices.Contains(ownReasons, e.Code)
}

// ownReasons are those of a server that ends a link for reasons of its own.
var ownReasons = []codec.ReasonCode{
	codec.ServerUnavailable, codec.ServerBusy, codec.ServerShuttingDown, codec.KeepAliveTimeout, codec.SessionTakenOver,
	codec.AdministrativeAction, codec.UseAnotherServer, codec.ServerMoved, codec.ConnectionRateExceeded, codec.MaximumConnectTime,
}

// suspicion is what the death of a link says about the packets that were unanswered.
type suspicion struct {
	suspect
	suspected  bool // this one did it, it seems
	cleared    bool // none of them did
	aside      bool // the suspected one did it once too often
	topic, key string
	id         uint16
}

// weigh says what the death of l, which is down, tells about the packet that was
// alone unanswered, and sets a publish aside when it killed limit probing links in a
// row. answer is whether the server may have ended l for it.
func (o *outbound) weigh(l *sender, answer bool, limit uint8) (v suspicion) {
	o.mu.Lock()
	defer o.unlock()
	if !l.probe {
		return v
	}
	if !answer || l.unanswered == (suspect{}) {
		o.suspect, o.deaths = suspect{}, 0
		v.cleared = true
		return v
	}
	if o.suspect != l.unanswered {
		o.suspect, o.deaths = l.unanswered, 0
	}
	v.suspect, v.suspected = o.suspect, true
	if o.deaths++; o.deaths < limit {
		return v
	}
	o.suspect, o.deaths = suspect{}, 0
	v.aside = true
	if v.packet == codec.PUBLISH {
		o.setAsideLocked(&v)
	}
	return v
}

// setAsideLocked takes the publish of v out of what is sent again.
func (o *outbound) setAsideLocked(v *suspicion) {
	for r := o.win.order.head; r != nil; r = r.next {
		if r.seq == v.seq {
			v.topic, v.key, v.id = r.topic, r.appKey, r.id
			o.win.setAside(r)
			o.settle(r, ErrSetAside)
			return
		}
	}
}

// learnInbound counts links that died young of what the server sent. The same
// protocol error three times in a row ends the Conn, except one in a message that can
// be passed over (see faultymessage.go) and one in a DISCONNECT, which ends the link
// whatever is wrong with it. A server that goes beyond our Receive Maximum, again and
// again, delivers all the same as long as each link brings some exchange further.
func (s *supervisor) learnInbound(err error) {
	p, ours := errors.AsType[*ProtocolError](err)
	fault, bad := errors.AsType[*messageFault](err)
	switch {
	case s.lastUp >= s.c.cfg.stableAfter:
		clear(s.faults)
		s.poison, s.poisoned = "", 0
	case bad && !s.c.cfg.faultyEnds:
		s.learnFault(fault.key)
		s.poison, s.poisoned = "", 0
	case !ours, isDisconnect(err), errors.Is(err, ErrWrongAck), exceededMaximum(err) && s.c.ledger.progress():
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
