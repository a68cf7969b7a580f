package mqtt

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/pulse"
)

// This file has the keepalive goroutine of a link: it pings, and it finds a dead peer,
// missing answers, and messages that the application does not acknowledge.

// watchdog finds answers and acknowledgements that are late on a link.
type watchdog struct {
	l            *link
	lastReported generation // generation of the message in the last AckOverdue
	lateness     lateness
	interval     time.Duration
}

// keepalive runs until the link ends. Package pulse decides when it pings and when the peer
// is dead; the watchdog finds what else is late.
func (l *link) keepalive() {
	p := pulse.New(l.agreed.keepAlive, l.session.cfg.pingTimeout)
	progress := pingProgress{socket: &l.socket}
	watch := l.newWatch()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		f := l.facts(now)
		progress.add(&f, p.Handed())
		action, delay := p.Look(f)
		switch action {
		case pulse.Dead:
			if l.disconnecting() {
				<-l.dead // closeTimer ends the link
				return
			}
			l.kill(ErrKeepAlive)
			return
		case pulse.Ping:
			l.handed.Store(l.since())
			l.ping()
		}
		timer.Reset(min(delay, watch.check(now)))
		select {
		case <-timer.C:
		case <-l.endRequested:
			l.endAsRequested()
			<-l.dead
			return
		case <-l.dead:
			return
		}
	}
}

// facts returns what a Pulse has to know of the link.
func (l *link) facts(now time.Time) pulse.Facts {
	f := pulse.Facts{Now: now, Wall: time.Time{}.Add(l.session.cfg.clock.uptime()), Received: l.at(&l.received), Sent: l.at(&l.sent), Paused: l.paused.Load()}
	if l.pinged.Load() != 0 {
		f.PingSent = l.at(&l.pinged)
	}
	return f
}

// ping hands a PINGREQ to the writer.
func (l *link) ping() {
	o := l.session.out
	o.mu.Lock()
	defer o.unlock()
	if limit := l.agreed.maximumPacket; limit < pingSize {
		l.kill(noRoom(codec.PINGREQ, pingSize, limit))
		return
	}
	if o.appendLocked(&l.sender, codec.AppendPingreq) {
		l.out.ping = len(l.out.buf)
	}
}

// pingSize is the size of a PINGREQ.
const pingSize = 2

// pong notes how long the answer to a ping took. The PINGRESP may arrive before the writer
// has noted when the PINGREQ was written; then the time is not known, and none is noted.
func (l *link) pong() {
	if sent := l.pinged.Load(); sent != l.ponged {
		l.ponged = sent
		l.session.stats.rtt.Store(l.since() - sent)
	}
}

// newWatch makes the watchdog. Its interval is short enough for each of the limits.
func (l *link) newWatch() *watchdog {
	cfg := l.session.cfg
	w := &watchdog{l: l, lateness: lateness{out: &l.sender, socket: &l.socket}, interval: max(cfg.ackOverdue/2, time.Millisecond)}
	if cfg.ackTimeout > 0 {
		w.interval = min(w.interval, cfg.ackTimeout/4+time.Millisecond)
	}
	w.interval = min(w.interval, cfg.subscribeWait/2+time.Millisecond)
	return w
}

// check finds what is late at the time now, and returns the time until the next check.
func (w *watchdog) check(now time.Time) time.Duration {
	s := w.l.session
	if w.l.disconnecting() {
		return w.interval // closeTimer ends the link
	}
	if old, owed, ok := s.ledger.oldest(); ok && old.gen != w.lastReported && now.Sub(old.since) >= s.cfg.ackOverdue {
		w.lastReported = old.gen
		s.events.emit(AckOverdue{Topic: old.topic, Filter: old.sub.name(), PacketID: old.id, Age: now.Sub(old.since), Owed: owed})
	}
	if s.cfg.ackTimeout > 0 && !w.l.pausedWithin(now, s.cfg.ackTimeout) {
		if since, ok := s.out.oldestSent(); ok && w.lateness.late(since, now, s.cfg.ackTimeout) {
			w.l.kill(&timeoutError{"no acknowledgement of a publish within " + s.cfg.ackTimeout.String()})
		}
	}
	if filter, waited := s.routes.oldestAsked(now); waited > 0 && !w.l.pausedWithin(now, s.cfg.subscribeWait) && w.lateness.late(now.Add(-waited), now, s.cfg.subscribeWait) {
		w.l.kill(&timeoutError{"subscribe: no SUBACK for " + filter + " within " + s.cfg.subscribeWait.String()})
	}
	return w.interval
}

// pausedWithin reports whether the reader was paused at some time within d before now, so
// that answers which are missing may lie unread in the socket.
func (l *link) pausedWithin(now time.Time, d time.Duration) bool {
	return l.paused.Load() || now.Sub(l.began.Add(time.Duration(l.resumed.Load()))) < d
}

// explain returns cause, or an error that adds the remedy when the server may have cut the
// link because it got no packet for one and a half keep alives: when a ping has waited for
// half a keep alive or more behind other bytes.
func (l *link) explain(cause error) error {
	handed, keepAlive := l.handed.Load(), l.agreed.keepAlive
	waits := handed > l.received.Load() && time.Duration(l.since()-handed) >= keepAlive/2
	if !waits || !cutByServer(cause) {
		return cause
	}
	return &slowPacketError{cause, keepAlive}
}

// cutByServer reports whether the server, or the network, ended a link, and gave no
// other reason than the keep alive.
func cutByServer(cause error) bool {
	if reason, ok := errors.AsType[*ReasonError](cause); ok {
		return reason.Code == codec.KeepAliveTimeout
	}
	_, network := errors.AsType[*net.OpError](cause)
	return network || errors.Is(cause, io.ErrUnexpectedEOF) || errors.Is(cause, io.EOF)
}
