package mqtt

import (
	"net"
	"runtime"
	"time"

	"github.com/millrace/mqtt/internal/sendqueue"
)

const (
	// writePiece is the most that one Write is given: a write that went through
	// is progress to keepalive, besides what the peer's TCP takes.
	writePiece = bufferMark + bufferMark/8
	// drainTime is how long the reader may take in what the peer sent before a
	// failed write is the end of the link.
	drainTime = 500 * time.Millisecond
)

// writer is the only goroutine that writes to the socket. It swaps buffers with
// the publishers and writes until there is nothing left, then waits for work.
// It ends with the link, and has the socket closed as its last act.
func (l *link) writer() {
	o := l.session.out
	spare := &outbuf{}
	var w bulk
	intact := true // a packet may follow what was written
	for intact && !l.killed() {
		b := o.swap(&l.sender, spare)
		if b == nil {
			l.awaitWork()
			continue
		}
		if intact = l.send(&w, b); intact {
			spare = b
			if by, written := l.disconnectWritten(); written {
				l.afterDisconnect(by)
			}
		}
	}
	<-l.dead
	l.overdue.Stop()
	if intact && exceededMaximum(l.cause) {
		// The acknowledgements that are due are how the server gets on next time.
		if b := o.swap(&l.sender, spare); b != nil {
			t := time.AfterFunc(killTime, l.closeSocket)
			intact = l.send(&w, b)
			t.Stop()
		}
	}
	if intact {
		l.reportFault()
	}
	l.closeSocket()
}

// awaitWork waits until there is something to write, and sends the control frames
// of a WebSocket.
func (l *link) awaitWork() {
	select {
	case <-l.work:
	case <-l.dead:
	}
	if l.control != nil && l.writes.enter() {
		err := l.control.FlushControl()
		if l.writes.leave() && err != nil {
			l.writeFailed(err)
		}
	}
	// Publishers that were woken together append together.
	runtime.Gosched()
}

// send writes b, and reports whether another packet may follow.
func (l *link) send(w *bulk, b *outbuf) bool {
	o := l.session.out
	l.showSent(b) // before the answers can come
	err := net.ErrClosed
	if l.writes.enter() {
		err = w.write(l, b)
		if !l.writes.leave() {
			return false // writeLeft has b
		}
	}
	o.wrote(&l.sender, b, err)
	if err != nil {
		l.writeFailed(err)
		return false
	}
	b.reset()
	return true
}

// showSent shows the packet hook what is in b. A hook that ends the writer's goroutine
// leaves b unwritten.
func (l *link) showSent(b *outbuf) {
	h := &l.session.hooks
	if h.hook == nil {
		return
	}
	returned := false
	defer func() {
		if !returned {
			l.session.out.wrote(&l.sender, b, &CallbackError{Function: packetHook, Exited: true})
		}
	}()
	h.sent(l.version, l.no, b)
	returned = true
}

// writeFailed ends the link because of a failed write, but lets the reader take
// in what the peer sent before: acknowledgements, and a DISCONNECT that says why.
func (l *link) writeFailed(err error) {
	select {
	case <-l.disconnectDone:
	default:
		close(l.disconnectDone)
	}
	t := time.AfterFunc(drainTime, func() { l.kill(err) })
	defer t.Stop()
	<-l.dead
}

// bulk writes buffers in as few calls as the socket allows. It belongs to the
// writer.
type bulk struct {
	pieces [][]byte
	vector net.Buffers
	copied []byte // what is written to a foreign socket
}

// write writes b, and notes when a PINGREQ in it has gone: what stands behind it
// goes in calls of its own.
func (w *bulk) write(l *link, b *outbuf) error {
	if b.ping > 0 {
		if err := w.section(l, b, 0, b.ping); err != nil {
			return err
		}
		l.pingWritten()
	}
	return w.section(l, b, b.ping, len(b.buf))
}

// section writes a part of b. Each call that goes through counts as progress.
func (w *bulk) section(l *link, b *outbuf, from, to int) error {
	w.pieces = b.section(w.pieces[:0], from, to, l.piece)
	defer clear(w.pieces)
	if batch, ok := l.nc.(batchWriter); ok && !l.foreign && from < to {
		return batch.WriteBatch(w.pieces)
	}
	for rest := w.pieces; len(rest) > 0; {
		n := group(rest, l.piece)
		if err := w.writeGroup(l, rest[:n]); err != nil {
			return err
		}
		l.progress()
		rest = rest[n:]
	}
	return nil
}

// group returns how many pieces one call of most bytes takes.
func group(pieces [][]byte, most int) int {
	size := 0
	for i, p := range pieces {
		if size += len(p); size > most && i > 0 {
			return i
		}
	}
	return len(pieces)
}

func (w *bulk) writeGroup(l *link, pieces [][]byte) error {
	if l.foreign {
		return w.writeCopy(l, pieces)
	}
	if len(pieces) == 1 {
		_, err := l.nc.Write(pieces[0])
		return err
	}
	w.vector = append(w.vector[:0], pieces...)
	v := w.vector // WriteTo consumes its receiver
	_, err := v.WriteTo(l.nc)
	clear(w.vector)
	return err
}

// writeCopy writes a copy of pieces, which a call that never returns may go on
// reading when they are used again.
func (w *bulk) writeCopy(l *link, pieces [][]byte) error {
	w.copied = w.copied[:0]
	for _, p := range pieces {
		w.copied = append(w.copied, p...)
	}
	_, err := l.nc.Write(w.copied)
	if !l.writes.in() {
		return net.ErrClosed // it was left behind, and the rest of pieces with it
	}
	return err
}

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
