package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// learn decides whether a packet on l was the reason for its end err.
//
// That a link ended while packets were unanswered proves little: networks cut links, and
// when the application has only one message it is in flight each time. So after two links
// that ended young, within probeTime, the next one probes (see probe.go): it carries no
// packet of the application for probeTime, then one packet at a time. When it ends before
// the first packet, or long after one, the network was the reason. When three such links
// in a row end within probeTime after the same packet, the packet was. Other packets are
// unanswered for a round trip only.
//
// So a packet at which the server cuts costs six links at most: the one that carried it
// first, two that end young and three that probe. Each further such packet costs three,
// since the next links go on probing.
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

// setAside reports that the packet of v is not sent any more. No link is up.
func (s *supervisor) setAside(v *probeVerdict, err error) {
	c := s.c
	if v.packet != codec.PUBLISH {
		s.setFilterAside(v.probedPacket, err)
		return
	}
	c.emit(PublishSetAside{Topic: v.topic, Key: v.key, PacketID: v.id, Err: err})
	c.record(slog.LevelWarn, "publish set aside", "client", c.ClientID(), "topic", v.topic, "key", v.key, "error", err)
}

// mayBeAnswer reports whether the server may have ended a link because of a packet of ours:
// whether err has no other reason.
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

// ownReason reports whether err is a DISCONNECT with one of ownReasons.
func ownReason(err error) bool {
	e, ok := errors.AsType[*ReasonError](err)
	return ok && slices.Contains(ownReasons, e.Code)
}

// ownReasons are the reason codes of a server that ends a link for a reason that no packet
// of the client can be.
var ownReasons = []codec.ReasonCode{
	codec.ServerUnavailable, codec.ServerBusy, codec.ServerShuttingDown, codec.KeepAliveTimeout, codec.SessionTakenOver,
	codec.AdministrativeAction, codec.UseAnotherServer, codec.ServerMoved, codec.ConnectionRateExceeded, codec.MaximumConnectTime,
}

// learnInbound counts links that ended because of a packet of the server, and were up for
// less than WithStableAfter. The same protocol error three times in a row ends the Conn,
// with three exceptions: an error in a message that can be dropped (see
// reader.faultyPublish); one in a DISCONNECT, which ends the link anyway; and a server that
// exceeds our Receive Maximum, as long as each link completes a step of an exchange.
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

// noteOverrun notes that l ended because its server exceeded our Receive Maximum, so that
// the next link announces more. With the same value the same would happen again, and in a
// clean session, where the server begins anew on each link, without end.
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

// learnFault counts a link that was up for less than WithStableAfter and ended because of a
// faulty message. After deathLimit of them the next links drop the message. No link is up.
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

// maxFaults is how many faults are remembered.
const maxFaults = 64

// setFilterAside gives up a SUBSCRIBE or UNSUBSCRIBE, which is not sent any more, and
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
