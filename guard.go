package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// learn notes what the death of l says about the packets that it carried.
//
// That a link dies with packets unanswered says little: networks cut links, and
// an innocent message that is the only one is in flight each time. So after two
// links that died young the next probes (see probe.go): it carries nothing of the
// application for probeTime, then one packet at a time. When it dies before the first
// packet, or long after one, the network did it; when it dies at once on a packet, three
// times in a row, the packet did. An innocent packet is unanswered for a round trip only.
//
// So a packet that the server cuts at costs six links at most: the one that carried
// it first, two that die young and three that probe. Each further one costs three,
// since the links behind it go on probing.
func (s *supervisor) learn(l *link, err error) {
	s.learnInbound(err)
	answer := mayBeAnswer(err)
	switch v := s.c.out.judgeDeath(&l.sender, answer, deathLimit); {
	case v.quarantined:
		s.youngDeaths = youngBeforeProbe // the next link probes the rest
		s.setAside(&v, err)
	case v.accused: // the next link probes too
	case v.cleared, !answer, time.Since(l.began) > probeTime:
		s.youngDeaths = 0
	default:
		s.youngDeaths++
	}
}

// setAside carries out that the packet of v is not sent any more, and reports it.
func (s *supervisor) setAside(v *probeVerdict, err error) {
	c := s.c
	if v.packet != codec.PUBLISH {
		s.setFilterAside(v.probedPacket, err)
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
	return errors.Is(err, errUnexpectedDisconnect)
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

// learnInbound counts links that died young of what the server sent. The same
// protocol error three times in a row ends the Conn, except one in a message that can
// be passed over (see reader.faultyPublish) and one in a DISCONNECT, which ends the link
// whatever is wrong with it. A server that goes beyond our Receive Maximum, again and
// again, delivers all the same as long as each link brings some exchange further.
func (s *supervisor) learnInbound(err error) {
	p, ours := errors.AsType[*ProtocolError](err)
	fault, bad := errors.AsType[*messageFault](err)
	switch {
	case s.lastUp >= s.c.cfg.stableAfter:
		clear(s.faults)
		s.lastFault, s.sameFaults = "", 0
	case bad && !s.c.cfg.endOnFaulty:
		s.learnFault(fault.key)
		s.lastFault, s.sameFaults = "", 0
	case !ours, isDisconnect(err), errors.Is(err, ErrWrongAck), exceededMaximum(err) && s.c.ledger.progress():
		s.lastFault, s.sameFaults = "", 0
	case p.Error() == s.lastFault:
		s.sameFaults++
	default:
		s.lastFault, s.sameFaults = p.Error(), 1
	}
}

// noteOverrun notes that l ended because its server went beyond our Receive Maximum.
// The same would happen on the next link, and in a clean session the server begins
// anew each time, so that it may never come to an end.
func (s *supervisor) noteOverrun(l *link, err error) {
	if !exceededMaximum(err) || s.overran[l.server] {
		return
	}
	if s.overran == nil {
		s.overran = map[string]bool{}
	}
	s.overran[l.server] = true
	ev := ReceiveMaximumExceeded{Server: l.server, Announced: l.agreed.ourReceiveMaximum, Next: s.receiveMaximum(l.server)}
	if ev.Next != maxReceive {
		ev.Advice = "this server sends more than it was told to: leave WithReceiveMaximum out, and later links announce 65,535"
	}
	s.c.emit(ev)
	s.c.record(slog.LevelWarn, "receive maximum exceeded", "client", s.c.ClientID(), "server", l.server,
		"announced", ev.Announced, "next", ev.Next, "advice", ev.Advice)
}

// learnFault counts a young link that died of a message, and lets the next links pass
// over it when it was the last that it may kill. No link is up.
func (s *supervisor) learnFault(key faultKey) {
	if s.faults == nil || len(s.faults) >= maxFaults {
		s.faults = map[faultKey]int{key: s.faults[key]}
	}
	if s.faults[key]++; s.faults[key] < deathLimit {
		return
	}
	delete(s.faults, key)
	if c := s.c; c.faultsToDrop == nil || len(c.faultsToDrop) >= maxFaults {
		c.faultsToDrop = map[faultKey]bool{}
	}
	s.c.faultsToDrop[key] = true
}

// maxFaults bounds how many faults are remembered.
const maxFaults = 64

// setFilterAside carries out that a SUBSCRIBE or UNSUBSCRIBE is not sent any more, and
// reports it. No link is up.
func (s *supervisor) setFilterAside(p probedPacket, cause error) {
	c := s.c
	err := &SetAsideError{Packet: p.packet, Filter: p.filter, Err: cause}
	c.emit(FilterSetAside{Packet: p.packet, Filter: p.filter, Err: cause})
	c.record(slog.LevelWarn, "filter set aside", "client", c.ClientID(), "packet", p.packet.String(), "filter", p.filter, "error", cause)
	if p.packet == codec.UNSUBSCRIBE {
		c.routes.giveUpUnsubscribe(p.filter, err)
		return
	}
	settled, lost := c.routes.giveUpSubscribe(p.filter, err)
	c.tellSubscribed(settled, lost)
}
