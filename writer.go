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

// writer is the only goroutine that writes to the socket. It takes the buffer that the
// publishers fill, leaves them an empty one, and writes, until the buffer stays empty; then
// it waits for work. It ends with the link, and closes the socket last.
func (l *link) writer() {
	o := l.session.out
	spare := &sendBuffer{}
	var w socketWriter
	intact := true // the last packet was written whole: another may follow
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
		// Send the acknowledgements that are due: after them the server has fewer messages
		// to send again.
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
	// Publishers that were woken together append before the writer takes the buffer.
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
			return false // the link has ended without the writer, and awaitGoroutines has b
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

// showSent calls the packet hook with the packets in b. When the hook ends the writer's
// goroutine b is not written.
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

// writeFailed ends the link because of a failed write. Before, the reader may read what the
// peer has sent: acknowledgements, and a DISCONNECT with the reason.
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
	copied []byte // the copy that is written to a foreign socket
}

// write writes b, and notes when a PINGREQ in it was written. The bytes after the PINGREQ
// are written by calls of their own.
func (w *socketWriter) write(s *socket, b *sendBuffer) error {
	if b.ping > 0 {
		if err := w.section(s, b, 0, b.ping); err != nil {
			return err
		}
		s.pingWritten()
	}
	return w.section(s, b, b.ping, len(b.buf))
}

// section writes the bytes of b between from and to. Each call that returns is progress.
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

// group returns how many of the pieces, one at least, have most bytes together.
func group(pieces [][]byte, most int) int {
	size := 0
	for i, p := range pieces {
		if size += len(p); size > most && i > 0 {
			return i
		}
	}
	return len(pieces)
}

// writeGroup writes pieces by one call.
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

// writeCopy writes a copy of pieces: a call that is left behind may still read its bytes
// when pieces are used again.
func (w *socketWriter) writeCopy(s *socket, pieces [][]byte) error {
	w.copied = w.copied[:0]
	for _, p := range pieces {
		w.copied = append(w.copied, p...)
	}
	_, err := s.nc.Write(w.copied)
	if !s.writes.in() {
		return net.ErrClosed // the call was left behind: the other pieces are not written
	}
	return err
}
