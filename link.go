package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/sendqueue"
	"golang.org/x/sync/errgroup"
)

// link is one network connection from CONNACK to its end. Three goroutines run
// it under one errgroup that the Conn's supervisor waits for: the reader, the
// writer and the keepalive. The first that ends ends the others by killing the
// link.
type link struct {
	// Immutable.
	session *session
	nc      net.Conn
	server  string
	address string // of the server's host, empty when that was not looked up
	connack codec.Connack
	began   time.Time
	framer  *codec.Framer // the reader's, with what came behind the CONNACK

	sender

	received atomic.Int64 // time of the last byte, as nanoseconds since began
	sent     atomic.Int64 // time of the last write that went through
	pinged   atomic.Int64 // when the last PINGREQ went through
	ponged   int64        // the value of pinged that was answered last; the reader's
	paused   atomic.Bool  // the reader waits for a consumer
	resumed  atomic.Int64 // when it last ceased to

	leaving        atomic.Bool   // what arrives is left to the server: the DISCONNECT is in the buffer, or comes next
	inBatch        atomic.Bool   // the reader is at work on what it has read
	left           chan struct{} // closed by the reader after the batch in which leaving was set
	leave          chan struct{} // closed with leaving
	leaveOnce      sync.Once
	endAsked       chan struct{} // closed when the keepalive goroutine is to end the link in order, for Reconnect
	askOnce        sync.Once
	disconnectSent bool          // the DISCONNECT was written whole; set before disconnectDone is closed
	disconnectDone chan struct{} // closed by the writer: it has written the DISCONNECT, or cannot

	end   sync.Once
	cause error // why the link ended; set before dead is closed

	reads, writes                 socketCalls
	foreign                       bool          // the socket is of a dialer of the application: its calls may never return
	readerEnd, writerEnd, keepEnd chan struct{} // closed by reader, writer and keepalive as their last act
	overdue                       *time.Timer   // closes the socket when a write goes on after kill; set before dead is closed
	shut                          sync.Once
	shutting, shutDone            chan struct{} // closed when the socket's Close is called, and when it has returned

	control controlFlusher // of a WebSocket, nil otherwise

	queue   *sendqueue.Queue // of the socket, nil where it is not known
	piece   int              // the most that one Write is given
	pingEnd atomic.Uint64    // the position in queue behind the last PINGREQ
	handed  atomic.Int64     // when the last PINGREQ was handed to the writer
}

// controlFlusher is what a WebSocket connection needs from our writer: its
// control frames are written by nobody else.
type controlFlusher interface {
	SetControlNotify(func())
	FlushControl() error
}

// batchWriter is a connection that sends several pieces as one message, and calls
// a function after each part of it that went through.
type batchWriter interface {
	SetWriteProgress(func())
	WriteBatch([][]byte) error
}

// prepare ties the link to its sender, which out guards.
func (l *link) prepare(out *outbound) {
	l.sender.mu, l.sender.kill = &out.mu, l.kill
	l.wake = make(chan struct{}, 1)
	for _, c := range []*chan struct{}{&l.left, &l.leave, &l.endAsked, &l.disconnectDone, &l.dead, &l.keepEnd, &l.readerEnd, &l.writerEnd, &l.shutting, &l.shutDone} {
		*c = make(chan struct{})
	}
}

func (l *link) since() int64 { return int64(time.Since(l.began)) }

// run runs the link until it ends and returns why.
func (l *link) run() error {
	var g errgroup.Group
	if c, ok := l.nc.(controlFlusher); ok {
		l.control = c
		c.SetControlNotify(l.notify)
	}
	l.watchSocket()
	g.Go(func() error {
		defer close(l.readerEnd)
		defer l.exited()
		l.kill(l.read())
		l.discardRest()
		return nil
	})
	g.Go(func() error {
		defer close(l.writerEnd)
		defer l.closeSocket() // for a writer that did not get there
		defer l.exited()
		l.writer()
		return nil
	})
	g.Go(func() error {
		defer close(l.keepEnd)
		l.keepalive()
		return nil
	})
	<-l.dead
	ended := make(chan struct{})
	go func() { // ends with the three, and is left behind with one that is
		g.Wait()
		close(ended)
	}()
	l.awaitGoroutines(ended)
	return l.explain(l.cause)
}

// kill ends the link with a cause; the first one counts.
func (l *link) kill(cause error) {
	l.end.Do(func() {
		l.cause = cause
		// A write that has begun gets a moment, so that what closes the link can
		// follow it. Nothing follows to a peer that is gone, or when our time is over.
		grace := killTime
		if cause == ErrKeepAlive || cause == errLocalClose {
			grace = 0
		}
		if l.nc.SetWriteDeadline(time.Now().Add(grace)) == nil {
			grace = killTime
		}
		l.overdue = time.AfterFunc(grace, l.closeSocket)
		close(l.dead)
	})
}

// killTime is how long a write may still take when its link was killed, and how
// long a call of the socket when that was closed.
const killTime = 250 * time.Millisecond

// keepalive is the goroutine that pings, finds a dead peer, and keeps an eye on
// acknowledgements that are overdue. It ends with the link.
func (l *link) keepalive() {
	p := pulse{keepAlive: l.agreed.keepAlive, timeout: l.session.cfg.pingTimeout}
	taking := taking{l: l}
	watch := l.newWatch()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		f := l.facts(now)
		taking.add(&f, p.handed)
		action, delay := p.look(f)
		switch action {
		case pulseDead:
			if l.disconnecting() {
				<-l.dead // closeTimer's
				return
			}
			l.kill(ErrKeepAlive)
			return
		case pulsePing:
			l.handed.Store(l.since())
			l.ping()
		}
		timer.Reset(min(delay, watch.look(now)))
		select {
		case <-timer.C:
		case <-l.endAsked:
			l.endAsAsked()
			<-l.dead
			return
		case <-l.dead:
			return
		}
	}
}

// at is a time that is kept as nanoseconds since began.
func (l *link) at(a *atomic.Int64) time.Time { return l.began.Add(time.Duration(a.Load())) }

func (l *link) facts(now time.Time) pulseFacts {
	f := pulseFacts{now: now, wall: time.Time{}.Add(l.session.cfg.clock.uptime()), received: l.at(&l.received), sent: l.at(&l.sent), paused: l.paused.Load()}
	if l.pinged.Load() != 0 {
		f.pingSent = l.at(&l.pinged)
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
	if o.append(&l.sender, codec.AppendPingreq) {
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

// watchdog looks after what is late on a link.
type watchdog struct {
	l        *link
	told     uint32 // generation of the message that AckOverdue named last
	lateness lateness
	interval time.Duration
}

func (l *link) newWatch() *watchdog {
	cfg := l.session.cfg
	w := &watchdog{l: l, lateness: lateness{l: l}, interval: max(cfg.ackOverdue/2, time.Millisecond)}
	if cfg.ackTimeout > 0 {
		w.interval = min(w.interval, cfg.ackTimeout/4+time.Millisecond)
	}
	w.interval = min(w.interval, cfg.subscribeWait/2+time.Millisecond)
	return w
}

// look checks what may be late and returns when to look again.
func (w *watchdog) look(now time.Time) time.Duration {
	s := w.l.session
	if w.l.disconnecting() {
		return w.interval // closeTimer ends the link
	}
	if old, owed, ok := s.ledger.oldest(); ok && old.gen != w.told && now.Sub(old.since) >= s.cfg.ackOverdue {
		w.told = old.gen
		s.events.emit(AckOverdue{Topic: old.topic, Filter: old.sub.name(), PacketID: old.id, Age: now.Sub(old.since), Owed: owed})
	}
	if s.cfg.ackTimeout > 0 && !w.l.deaf(now, s.cfg.ackTimeout) {
		if since, ok := s.out.oldestSent(); ok && w.lateness.late(since, now, s.cfg.ackTimeout) {
			w.l.kill(&timeoutError{"no acknowledgement of a publish within " + s.cfg.ackTimeout.String()})
		}
	}
	if filter, waited := s.routes.oldestAsked(now); waited > 0 && !w.l.deaf(now, s.cfg.subscribeWait) && w.lateness.late(now.Add(-waited), now, s.cfg.subscribeWait) {
		w.l.kill(&timeoutError{"subscribe: no SUBACK for " + filter + " within " + s.cfg.subscribeWait.String()})
	}
	return w.interval
}

// deaf reports whether the reader was paused at some time within d before now: the
// answers that are missed may lie in the socket.
func (l *link) deaf(now time.Time, d time.Duration) bool {
	return l.paused.Load() || now.Sub(l.began.Add(time.Duration(l.resumed.Load()))) < d
}
