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
	// flapTime is how young a link dies that makes messages suspect, how long a
	// link that probes them is watched before the first is sent, and within what
	// time a link must die of a message to have died of it.
	flapTime = time.Second
	// flapProbe is how many links in a row die young before the next one probes.
	flapProbe = 2
	// flapLimit is how many probing links a message may kill before it is set
	// aside, and how many times a message may make us close the link.
	flapLimit = 3
)

// learn notes what the death of l says about the messages that it carried.
//
// That a link dies with messages under way says little: networks cut links, and
// an innocent message that is the only one is under way each time. So after two
// links that died young the next probes: it carries no publish for flapTime, then
// one at a time. When it dies in the quiet, or long after a publish, the network
// did it; when it dies at once on a publish, three times in a row, the publish
// did. Between being sent and being acknowledged an innocent one is there for a
// round trip only.
func (s *supervisor) learn(l *link, err error) {
	s.learnInbound(err)
	answer := mayBeAnswer(err)
	switch v := s.c.out.weigh(l, answer, flapLimit); {
	case v.aside:
		s.flaps = 0
		s.c.emit(PublishSetAside{Topic: v.topic, Key: v.key, PacketID: v.id, Err: err})
		s.c.record(slog.LevelWarn, "publish set aside", "client", s.c.ClientID(), "topic", v.topic, "key", v.key, "error", err)
	case v.suspected: // the next link probes too
	case v.cleared, !answer, time.Since(l.began) > flapTime:
		s.flaps = 0
	default:
		s.flaps++
	}
}

// mayBeAnswer reports whether the server may have ended a link for what it was
// sent, as far as err tells.
func mayBeAnswer(err error) bool {
	_, ours := errors.AsType[*ProtocolError](err)
	_, disk := errors.AsType[*StoreError](err)
	_, mute := errors.AsType[*noRoomError](err)
	if ours || disk || mute || errors.Is(err, errLocalClose) || errors.Is(err, ErrKeepAlive) || errors.Is(err, context.DeadlineExceeded) {
		return false // this side ended it
	}
	e, reason := errors.AsType[*ReasonError](err)
	return !reason || !slices.Contains(ownReasons, e.Code)
}

// ownReasons are those of a server that ends a link for reasons of its own.
var ownReasons = []codec.ReasonCode{
	codec.ServerUnavailable, codec.ServerBusy, codec.ServerShuttingDown, codec.KeepAliveTimeout, codec.SessionTakenOver,
	codec.AdministrativeAction, codec.UseAnotherServer, codec.ServerMoved, codec.ConnectionRateExceeded, codec.MaximumConnectTime,
}

// suspicion is what the death of a link says about the publishes under way (B10).
type suspicion struct {
	suspected  bool // one of them did it, it seems
	cleared    bool // none of them did
	aside      bool // the suspected one did it once too often
	topic, key string
	id         uint16
}

// weigh says what the death of l, which is down, tells about the publish that was
// alone under way, and sets it aside when it killed limit probing links in a row.
// answer is whether the server may have ended l for it.
func (o *outbound) weigh(l *link, answer bool, limit uint8) (v suspicion) {
	o.mu.Lock()
	defer o.unlock()
	if !l.probe {
		return v
	}
	only := o.alone()
	if only == nil || !answer || time.Since(only.sentAt) > flapTime {
		for r := o.win.order.head; r != nil; r = r.next {
			r.deaths = 0
		}
		v.cleared = true
		return v
	}
	v.suspected = true
	if only.deaths++; only.deaths >= limit {
		v.aside, v.topic, v.key, v.id = true, only.topic, only.appKey, only.id
		o.win.setAside(only)
		o.settle(only, ErrSetAside)
	}
	return v
}

// alone returns the publish that was the only one under way on the last link.
func (o *outbound) alone() (only *record) {
	for r := o.win.order.head; r != nil; r = r.next {
		if !r.quota {
			continue
		}
		if only != nil {
			return nil
		}
		only = r
	}
	return only
}

// endQuiet lets l, which has shown that it lives, send the first suspect.
func (o *outbound) endQuiet(l *link) {
	o.mu.Lock()
	defer o.unlock()
	if o.link != l || !l.quiet {
		return
	}
	l.quiet = false
	o.tick = time.Now()
	o.win.widen(1)
	o.pump()
}

// learnInbound counts links that died of the same protocol error in a row. A
// server that goes beyond our Receive Maximum, again and again, delivers all the
// same as long as each link brings some exchange further.
func (s *supervisor) learnInbound(err error) {
	p, ok := errors.AsType[*ProtocolError](err)
	switch {
	case !ok, errors.Is(err, errDisconnect3), errors.Is(err, ErrWrongAck), exceededMaximum(err) && s.c.ledger.progress():
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
