package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file is the end of a connection as the server sees it. A server closes the
// connection when it has read a DISCONNECT (section 3.14.4). If we close first
// while it has something to send, it gets a reset and throws away what it has not
// read: our last acknowledgements and messages, and the DISCONNECT itself, so that
// it publishes the will. If we shut only the sending side, some TCP proxies do the
// same in our name. So after the DISCONNECT the client reads on; the server has
// half of the time to close, then the sending side is shut, and when the time is
// over the socket is closed.

const (
	// disconnectTime is the most that the end of a connection in order takes, from when
	// the DISCONNECT is due until the socket is closed.
	disconnectTime = time.Second
	// faultTime is the same for a DISCONNECT that says what the server did wrong.
	faultTime = 500 * time.Millisecond
	// faultMaximum is the most that is read, and thrown away, behind such a DISCONNECT.
	faultMaximum = 1 << 20
)

// disconnectShare is the part of the time given to the end of a Conn that is kept
// for the DISCONNECT, disconnectTime at most.
const disconnectShare = 4

// reserveDisconnect returns a context that ends when pending publishes have been waited
// for long enough, so that the last part of ctx's time is left for the
// DISCONNECT. late is its cause then.
func reserveDisconnect(ctx context.Context, late error) (context.Context, context.CancelFunc) {
	by, ok := ctx.Deadline()
	if left := time.Until(by); ok && left > 0 {
		return context.WithDeadlineCause(ctx, by.Add(-min(disconnectTime, left/disconnectShare)), late)
	}
	return ctx, func() {}
}

// disconnectBy returns by when a connection that is sent its DISCONNECT now is closed: when
// ctx ends, disconnectTime from now at the latest. A context that has ended has still
// that time.
func disconnectBy(ctx context.Context) time.Time {
	by := time.Now().Add(disconnectTime)
	if end, ok := ctx.Deadline(); ok && ctx.Err() == nil && end.Before(by) {
		by = end
	}
	return by
}

// disconnect ends the link in order: messages that arrive from now on are the server's to
// keep, and a DISCONNECT is sent; see [sender.appendDisconnect].
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

// stopReader is startIgnoring that waits until the reader has handled what it has read,
// at most until ctx ends.
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

// awaitReleases lets the server finish the QoS 2 exchanges of which it has PUBREC:
// some begin them anew on the next connection.
func (l *link) awaitReleases(ctx context.Context) {
	select {
	case <-l.session.ledger.awaitPubrels():
	case <-l.dead:
	case <-ctx.Done():
	}
}

// afterDisconnect is the writer's end of a link whose DISCONNECT is written.
func (l *link) afterDisconnect(by time.Time) {
	l.disconnectSent = true
	close(l.disconnectDone)
	l.awaitServer(by, l.dead)
	l.kill(errLocalClose)
}

// endedBy returns what the link ends with when reading ended with err. Once the
// DISCONNECT is written whole, EOF and reset are the end that was asked for. A
// DISCONNECT of the server with an error is not: the server had ended the link, and
// its session, before it could read ours.
func (l *link) endedBy(err error) error {
	if e, ok := errors.AsType[*ReasonError](err); ok && e.Code.IsError() || !l.disconnecting() {
		return err
	}
	if !closed(l.disconnectDone) {
		l.nc.SetWriteDeadline(time.Now().Add(killTime)) // to a server that has closed
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

// faultPacket returns the DISCONNECT that tells an MQTT 5 server what it did wrong
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

// reportFault is the writer's end of a link that ends because of what the server did.
// On 3.x, where no packet can say so, the sending side is shut at once.
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

// blamesServer reports whether a link ends because of what the server sent.
func blamesServer(cause error) bool {
	_, ok := errors.AsType[*ProtocolError](cause)
	return ok
}

// discardRest is the reader's end of a link: behind the DISCONNECT that says what the
// server did wrong it throws away what comes, so that the server can read ours.
func (l *link) discardRest() {
	if !blamesServer(l.cause) || !l.reads.enter() {
		return
	}
	_, _ = io.CopyN(io.Discard, l.lowest(), faultMaximum)
	l.reads.leave()
}

// endUnused ends a connection that no link runs, number no in the hooks: it sends
// DISCONNECT with code, reads on until the server has closed, shuts the sending
// side after half of the time until by, and closes the socket at by, or when ctx
// ends before. Calls of the socket that never return are left behind.
func (s *session) endUnused(ctx context.Context, nc net.Conn, v Version, code codec.ReasonCode, no uint32, by time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	done := make(chan struct{})
	var err error
	go func() { // waited for here, but for one that is left behind
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

// writeDisconnect is endUnused in a goroutine of its own.
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
