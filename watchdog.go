package mqtt

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/pulse"
)

// This file is the keepalive goroutine of a link: it pings, finds a peer that is gone, and
// notices answers and acknowledgements that are overdue.

// watchdog looks after what is late on a link.
type watchdog struct {
	l            *link
	lastReported generation // generation of the message that AckOverdue named last
	lateness     lateness
	interval     time.Duration
}

// keepalive is the goroutine that pings, finds a dead peer, and keeps an eye on
// acknowledgements that are overdue. It ends with the link.
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
				<-l.dead // closeTimer's
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

// pong notes how long the answer to a ping took. The PINGRESP may overtake the
// writer's note of when the PINGREQ left; such a sample is skipped.
func (l *link) pong() {
	if sent := l.pinged.Load(); sent != l.ponged {
		l.ponged = sent
		l.session.stats.rtt.Store(l.since() - sent)
	}
}

func (l *link) newWatch() *watchdog {
	cfg := l.session.cfg
	w := &watchdog{l: l, lateness: lateness{out: &l.sender, socket: &l.socket}, interval: max(cfg.ackOverdue/2, time.Millisecond)}
	if cfg.ackTimeout > 0 {
		w.interval = min(w.interval, cfg.ackTimeout/4+time.Millisecond)
	}
	w.interval = min(w.interval, cfg.subscribeWait/2+time.Millisecond)
	return w
}

// check looks for what is late, and returns after what time to check again.
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

// pausedWithin reports whether the reader was paused at some time within d before now: the
// answers that are missed may lie in the socket.
func (l *link) pausedWithin(now time.Time, d time.Duration) bool {
	return l.paused.Load() || now.Sub(l.began.Add(time.Duration(l.resumed.Load()))) < d
}

// explain adds to the cause of the link's end what the user can do about it: a ping
// was waiting for so long that with what stood before it the server may have heard
// no packet for one and a half keep alives.
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
