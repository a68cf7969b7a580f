package mqtt

import (
	"errors"
	"net"
	"runtime"
	"time"

	"github.com/millrace/mqtt/codec"
)

const (
	// writePiece is the most that one Write is given: a write that went through
	// is the progress that keepalive looks for.
	writePiece = bufferMark + bufferMark/8
	// lastWords bounds the writing of what closes a link.
	lastWords = time.Second
	// drainTime is how long the reader may take in what the peer sent before a
	// failed write is the end of the link.
	drainTime = 500 * time.Millisecond
)

// writer is the only goroutine that writes to the socket. It swaps buffers with
// the publishers and writes until there is nothing left, then waits for wake.
// It ends with the link, and closes the socket as its last act.
func (l *link) writer() {
	o := l.conn.out
	spare := &outbuf{}
	var w bulk
	broken := false
	for !l.killed() {
		b := o.swap(l, spare)
		if b == nil {
			select {
			case <-l.wake:
			case <-l.dead:
			}
			if err := l.flushControl(); err != nil {
				l.writeFailed(err)
			}
			// Publishers that were woken together append together.
			runtime.Gosched()
			continue
		}
		l.hookSent(b) // before the answers can come
		err := w.write(l, b)
		if err == nil && b.ping {
			l.pinged.Store(max(l.since(), 1))
		}
		o.wrote(l, b, err)
		if err != nil {
			l.writeFailed(err)
			broken = true
			break
		}
		b.reset()
		spare = b
		if o.closed1(l) {
			l.kill(errLocalClose)
		}
	}
	if !broken && exceededMaximum(l.cause) {
		// The acknowledgements that are due are how the server gets on next time.
		if b := o.swap(l, spare); b != nil {
			l.hookSent(b)
			err := w.write(l, b)
			o.wrote(l, b, err)
			broken = err != nil
		}
	}
	l.closeSocket(broken)
}

// errLocalClose is the cause of a link that this side ended in order.
var errLocalClose = errors.New("mqtt: closed by this side")

// closed1 reports whether the DISCONNECT was written: nothing may follow it.
func (o *outbound) closed1(l *link) bool {
	o.mu.Lock()
	defer o.unlock()
	return l.closing && l.empty()
}

// writeFailed ends the link because of a failed write, but lets the reader take
// in what the peer sent before: acknowledgements, and a DISCONNECT that says why.
func (l *link) writeFailed(err error) {
	t := time.AfterFunc(drainTime, func() { l.kill(err) })
	defer t.Stop()
	<-l.dead
}

// closeSocket says the last words, if there are any, and closes the socket,
// which ends the reader. After a broken write no packet can follow.
func (l *link) closeSocket(broken bool) {
	if b := l.farewell(l.cause); b != nil && !broken && l.conn.mayFarewell(l) {
		l.nc.SetWriteDeadline(time.Now().Add(lastWords))
		if _, err := l.nc.Write(b); err == nil {
			l.conn.hookHandshake(true, codec.DISCONNECT, len(b), l.no)
		}
	}
	if under, ok := l.nc.(interface{ NetConn() net.Conn }); ok {
		// TLS writes a last record, for which it takes up to 5 s.
		defer time.AfterFunc(killTime, func() { under.NetConn().Close() }).Stop()
	}
	l.nc.Close()
}

// mayFarewell reports whether a DISCONNECT may still be sent, and makes it the
// last packet.
func (c *Conn) mayFarewell(l *link) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	said := l.closing
	l.closing = true
	return !said
}

func (l *link) flushControl() error {
	if l.control == nil {
		return nil
	}
	return l.control.FlushControl()
}

// bulk writes buffers in as few calls as the socket allows. It belongs to the
// writer.
type bulk struct {
	pieces [][]byte
	vector net.Buffers
}

// write writes b. Each call that goes through counts as progress.
func (w *bulk) write(l *link, b *outbuf) error {
	w.pieces = b.pieces(w.pieces[:0], writePiece)
	defer clear(w.pieces)
	if batch, ok := l.nc.(batchWriter); ok {
		err := batch.WriteBatch(w.pieces)
		if err == nil {
			l.sent.Store(l.since())
		}
		return err
	}
	for rest := w.pieces; len(rest) > 0; {
		n := group(rest)
		if err := w.writeGroup(l.nc, rest[:n]); err != nil {
			return err
		}
		l.sent.Store(l.since())
		rest = rest[n:]
	}
	return nil
}

// group returns how many pieces one call takes.
func group(pieces [][]byte) int {
	size := 0
	for i, p := range pieces {
		if size += len(p); size > writePiece && i > 0 {
			return i
		}
	}
	return len(pieces)
}

func (w *bulk) writeGroup(nc net.Conn, pieces [][]byte) error {
	if len(pieces) == 1 {
		_, err := nc.Write(pieces[0])
		return err
	}
	w.vector = append(w.vector[:0], pieces...)
	v := w.vector // WriteTo consumes its receiver
	_, err := v.WriteTo(nc)
	clear(w.vector)
	return err
}
