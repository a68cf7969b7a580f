package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file ends a connection so that the server has read everything. A server closes
// the connection when it has read a DISCONNECT (section 3.14.4). If we close first while
// the server is sending, its TCP gets a reset and discards the bytes that the server has
// not read: our last acknowledgements and messages, and the DISCONNECT itself, so that the
// server publishes the will. If we shut only the sending side, some TCP proxies close
// both. So after the DISCONNECT the client reads on. The server has half of the time to
// close; then the sending side is shut, and at the end of the time the socket is closed.

const (
	// disconnectTime is the most that the end of a connection in order takes, from when
	// the DISCONNECT is due until the socket is closed.
	disconnectTime = time.Second
	// faultTime is the same for a DISCONNECT that reports a protocol error of the server.
	faultTime = 500 * time.Millisecond
	// faultMaximum is how many bytes are read, and discarded, after such a DISCONNECT.
	faultMaximum = 1 << 20
)

// disconnectShare is the part of the time given to the end of a Conn that is kept
// for the DISCONNECT, disconnectTime at most.
const disconnectShare = 4

// reserveDisconnect returns the context of the wait for pending publishes. It ends before
// ctx, with late as its cause, so that the last part of ctx's time is left for the
// DISCONNECT.
func reserveDisconnect(ctx context.Context, late error) (context.Context, context.CancelFunc) {
	by, ok := ctx.Deadline()
	if left := time.Until(by); ok && left > 0 {
		return context.WithDeadlineCause(ctx, by.Add(-min(disconnectTime, left/disconnectShare)), late)
	}
	return ctx, func() {}
}

// disconnectBy returns the time by which a connection is closed that sends its DISCONNECT
// now: when ctx ends, and disconnectTime from now at the latest. When ctx has ended it is
// disconnectTime from now.
func disconnectBy(ctx context.Context) time.Time {
	by := time.Now().Add(disconnectTime)
	if end, ok := ctx.Deadline(); ok && ctx.Err() == nil && end.Before(by) {
		by = end
	}
	return by
}

// disconnect ends the link in order: messages that arrive from now on are ignored, so that
// the server keeps them, and a DISCONNECT is sent; see [sender.appendDisconnect].
func (l *link) disconnect(d *codec.Disconnect, by time.Time) bool {
	l.startIgnoring()
	return l.appendDisconnect(d, by)
}

// requestEnd asks the keepalive goroutine to end the link in order.
func (l *link) requestEnd() {
	l.startIgnoring()
	l.requestOnce.Do(func() { close(l.endRequested) })
}

// endAsRequested ends the link in order for Reconnect, which makes the next one.
func (l *link) endAsRequested() {
	by := time.Now().Add(disconnectTime)
	half, cancel := context.WithDeadline(l.session.aborted, time.Now().Add(disconnectTime/2))
	defer cancel()
	l.stopReader(half)
	l.session.ledger.payAcks()
	l.awaitReleases(half)
	l.disconnect(&codec.Disconnect{}, by)
}

// startIgnoring makes the reader ignore messages from now on, so that the server keeps them.
func (l *link) startIgnoring() {
	l.ignoreOnce.Do(func() {
		l.ignoring.Store(true)
		close(l.ignoreBegun)
	})
}

// stopReader is startIgnoring, and waits until the reader has handled the packets that it
// has read, at most until ctx ends.
func (l *link) stopReader(ctx context.Context) {
	l.startIgnoring()
	if !l.handling.Load() {
		return
	}
	select {
	case <-l.handled:
	case <-l.dead:
	case <-ctx.Done():
	}
}

// awaitReleases waits until the server has finished the incoming QoS 2 exchanges for
// which it has our PUBREC: some servers begin them anew on the next connection.
func (l *link) awaitReleases(ctx context.Context) {
	select {
	case <-l.session.ledger.awaitPubrels():
	case <-l.dead:
	case <-ctx.Done():
	}
}

// afterDisconnect ends the link once the writer has written its DISCONNECT.
func (l *link) afterDisconnect(by time.Time) {
	l.disconnectSent = true
	close(l.disconnectDone)
	l.awaitServer(by, l.dead)
	l.kill(errLocalClose)
}

// endedBy returns the cause with which the link ends when reading ended with err. Once the
// DISCONNECT is written whole, EOF and reset are the end that it asks for, errLocalClose.
// A DISCONNECT of the server with an error is not: the server had ended the link, and the
// session, before it could read ours.
func (l *link) endedBy(err error) error {
	if e, ok := errors.AsType[*ReasonError](err); ok && e.Code.IsError() || !l.disconnecting() {
		return err
	}
	if !closed(l.disconnectDone) {
		l.nc.SetWriteDeadline(time.Now().Add(killTime)) // the server has closed and reads no more
	}
	select {
	case <-l.disconnectDone:
		if l.disconnectSent {
			return errLocalClose
		}
	case <-l.dead:
	}
	return err
}

// awaitServer gives the server the first half of the time until by to close the
// connection, and then shuts the sending side. It returns when ended is closed, or
// at by.
func (l *link) awaitServer(by time.Time, ended <-chan struct{}) {
	l.callUntil(by, func() { endMessages(l.nc) })
	if waitUntil(time.Now().Add(time.Until(by)/2), ended) {
		return
	}
	l.callUntil(by, func() { shutSending(l.nc) })
	waitUntil(by, ended)
}

// faultPacket returns the DISCONNECT that reports a protocol error to an MQTT 5 server
// (section 4.13.1), nil if the link ends for another reason.
func (l *link) faultPacket() []byte {
	p, ok := errors.AsType[*ProtocolError](l.cause)
	if !ok || l.version != V5 {
		return nil
	}
	b, err := codec.AppendDisconnect(nil, l.version, &codec.Disconnect{Code: p.Code})
	if err != nil || len(b) > l.agreed.maximumPacket {
		return nil // [MQTT-3.2.2-15]
	}
	return b
}

// reportFault reports a protocol error of the server to it, if that ended the link. The
// writer calls it last. On 3.x, which has no packet for that, it shuts the sending side at
// once.
func (l *link) reportFault() {
	if !blamesServer(l.cause) || !l.claimDisconnect() {
		return
	}
	defer context.AfterFunc(l.session.aborted, l.closeSocket)()
	by := time.Now().Add(faultTime)
	if b := l.faultPacket(); b != nil {
		l.nc.SetWriteDeadline(by)
		l.callUntil(by, func() {
			if _, err := l.nc.Write(b); err == nil {
				l.session.hookHandshake(true, codec.DISCONNECT, len(b), l.no)
			}
		})
		l.awaitServer(by, l.readerEnd)
		return
	}
	l.callUntil(by, func() { endMessages(l.nc); shutSending(l.nc) })
	waitUntil(by, l.readerEnd)
}

// blamesServer reports whether a link ends because of a protocol error of the server.
func blamesServer(cause error) bool {
	_, ok := errors.AsType[*ProtocolError](cause)
	return ok
}

// discardRest reads and discards when a protocol error of the server ended the link, so
// that the server can read our DISCONNECT. The reader calls it last.
func (l *link) discardRest() {
	if !blamesServer(l.cause) || !l.reads.enter() {
		return
	}
	_, _ = io.CopyN(io.Discard, l.lowest(), faultMaximum)
	l.reads.leave()
}

// endUnused ends a connection that has no link; the hook gets no as its number. It sends
// DISCONNECT with code, reads on until the server has closed, shuts the sending side after
// half of the time until by, and closes the socket at by, or when ctx ends before. A call
// of the socket that does not return is left behind in its goroutine.
func (s *session) endUnused(ctx context.Context, nc net.Conn, v Version, code codec.ReasonCode, no uint32, by time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	done := make(chan struct{})
	var err error
	go func() { // waited for below, unless it is left behind
		defer close(done)
		err = s.writeDisconnect(ctx, nc, v, code, no, by)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	if waitUntil(time.Now().Add(killTime), done) {
		return err
	}
	s.stats.leftBehind.Add(1)
	return context.Cause(ctx)
}

// writeDisconnect does the work of endUnused, in a goroutine of its own.
func (s *session) writeDisconnect(ctx context.Context, nc net.Conn, v Version, code codec.ReasonCode, no uint32, by time.Time) error {
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	b, err := codec.AppendDisconnect(nil, v, &codec.Disconnect{Code: code})
	if err != nil {
		return err
	}
	nc.SetReadDeadline(time.Time{})
	nc.SetWriteDeadline(by)
	if _, err := nc.Write(b); err != nil {
		return err
	}
	s.hookHandshake(true, codec.DISCONNECT, len(b), no)
	endMessages(nc)
	defer time.AfterFunc(time.Until(by)/2, func() { shutSending(nc) }).Stop()
	under, _ := bottom(nc)
	_, _ = io.Copy(io.Discard, under)
	return nil
}
