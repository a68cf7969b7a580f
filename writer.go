package mqtt

import (
	"net"
	"runtime"
	"time"
)

const (
	// failedWriteGrace is how long the reader goes on after a write failed, before the
	// link ends: what the peer sent may say why.
	failedWriteGrace = 500 * time.Millisecond
)

// writer is the only goroutine that writes to the socket. It swaps buffers with
// the publishers and writes until there is nothing left, then waits for work.
// It ends with the link, and has the socket closed as its last act.
func (l *link) writer() {
	o := l.session.out
	spare := &sendBuffer{}
	var w socketWriter
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
	l.killTimer.Stop()
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
func (l *link) send(w *socketWriter, b *sendBuffer) bool {
	o := l.session.out
	l.showSent(b) // before the answers can come
	err := net.ErrClosed
	if l.writes.enter() {
		err = w.write(&l.socket, b)
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
func (l *link) showSent(b *sendBuffer) {
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
	t := time.AfterFunc(failedWriteGrace, func() { l.kill(err) })
	defer t.Stop()
	<-l.dead
}

// socketWriter writes buffers in as few calls as the socket allows. It belongs to the
// writer goroutine.
type socketWriter struct {
	pieces [][]byte
	vector net.Buffers
	copied []byte // what is written to a foreign socket
}

// write writes b, and notes when a PINGREQ in it has gone: what stands behind it
// goes in calls of its own.
func (w *socketWriter) write(s *socket, b *sendBuffer) error {
	if b.ping > 0 {
		if err := w.section(s, b, 0, b.ping); err != nil {
			return err
		}
		s.pingWritten()
	}
	return w.section(s, b, b.ping, len(b.buf))
}

// section writes a part of b. Each call that goes through counts as progress.
func (w *socketWriter) section(s *socket, b *sendBuffer, from, to int) error {
	w.pieces = b.section(w.pieces[:0], from, to, s.piece)
	defer clear(w.pieces)
	if batch, ok := s.nc.(batchWriter); ok && !s.foreign && from < to {
		return batch.WriteBatch(w.pieces)
	}
	for rest := w.pieces; len(rest) > 0; {
		n := group(rest, s.piece)
		if err := w.writeGroup(s, rest[:n]); err != nil {
			return err
		}
		s.progress()
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

func (w *socketWriter) writeGroup(s *socket, pieces [][]byte) error {
	if s.foreign {
		return w.writeCopy(s, pieces)
	}
	if len(pieces) == 1 {
		_, err := s.nc.Write(pieces[0])
		return err
	}
	w.vector = append(w.vector[:0], pieces...)
	v := w.vector // WriteTo consumes its receiver
	_, err := v.WriteTo(s.nc)
	clear(w.vector)
	return err
}

// writeCopy writes a copy of pieces, which a call that never returns may go on
// reading when they are used again.
func (w *socketWriter) writeCopy(s *socket, pieces [][]byte) error {
	w.copied = w.copied[:0]
	for _, p := range pieces {
		w.copied = append(w.copied, p...)
	}
	_, err := s.nc.Write(w.copied)
	if !s.writes.in() {
		return net.ErrClosed // it was left behind, and the rest of pieces with it
	}
	return err
}
