package mqtt

import (
	"net"
	"time"

	"github.com/millrace/mqtt/internal/sendqueue"
)

// smallPiece is the most that one Write is given where the system does not say
// what the peer has taken: there only a Write that returns shows that the line moves.
// A unix socket has no line that could be slow.
const smallPiece = 32 << 10

// watchSocket finds the socket at the bottom of the link, if there is one that
// says what the peer's TCP has taken.
func (l *link) watchSocket() {
	l.queue, l.piece = sendqueue.Of(l.nc), writePiece
	if b, ok := l.nc.(batchWriter); ok {
		b.SetWriteProgress(l.progress) // which comes for pieces small enough
	} else if _, local := l.socket().(*net.UnixConn); l.queue == nil && !local {
		l.piece = smallPiece
	}
}

// progress notes that a write went through. It is the writer's.
func (l *link) progress() { l.sent.Store(l.since()) }

// pingWritten notes that a PINGREQ, and nothing behind it, was written, and where
// the bytes of the socket are then. It is the writer's.
func (l *link) pingWritten() {
	if l.queue != nil {
		end, _ := l.queue.End() // 0 when it is not known: as if it were taken
		l.pingEnd.Store(end)
	}
	l.pinged.Store(max(l.since(), 1))
}

// taking follows a PINGREQ to the peer, for the keepalive goroutine. The system is
// asked only while one is on its way there.
type taking struct {
	l     *link
	bytes uint64    // that the peer's TCP has taken
	at    time.Time // when it was first seen to have taken them
	ping  time.Time // when it was seen to have taken the last PINGREQ
}

// add adds to f what the peer has taken; handed is when the last PINGREQ was handed
// to the writer.
func (t *taking) add(f *pulseFacts, handed time.Time) {
	if t.l.queue == nil {
		f.taken, f.pingTaken = f.sent, f.pingSent
		return
	}
	if t.ping.Before(handed) {
		t.look(f, handed)
	}
	f.taken, f.pingTaken = t.at, t.ping
}

// look asks the system. Until the PINGREQ is taken, all that the peer takes stood
// before it.
func (t *taking) look(f *pulseFacts, handed time.Time) {
	written := !f.pingSent.Before(handed)
	bytes, ok := t.l.queue.Taken()
	if bytes > t.bytes {
		t.bytes, t.at = bytes, f.now
	}
	if written && (!ok || bytes >= t.l.pingEnd.Load()) {
		t.ping = f.now
	}
}
