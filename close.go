package mqtt

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// This file ends the Conn: in order by Disconnect, Close and Drain, at once by Abort.

// DisconnectOption changes the DISCONNECT packet. [WithReason] and [WithReasonString]
// are the only ones; nil is refused with an [InvalidError].
type DisconnectOption interface {
	applyDisconnect(*codec.Disconnect) error
}

// disconnectFunc is a DisconnectOption made of a function.
type disconnectFunc func(*codec.Disconnect) error

func (f disconnectFunc) applyDisconnect(d *codec.Disconnect) error { return f(d) }

// WithReason sets the reason code of the DISCONNECT, MQTT 5 only, for example
// [ReasonDisconnectWithWill] to have the will published. A code that a client may not send
// is an [InvalidError] [MQTT-3.14.2-1].
func WithReason(code ReasonCode) DisconnectOption {
	return disconnectFunc(func(d *codec.Disconnect) error {
		if !slices.Contains(clientReasons, code) {
			return invalid("reason code", code.String(), "a client cannot send it in DISCONNECT [MQTT-3.14.2-1]")
		}
		d.Code = code
		return nil
	})
}

// clientReasons are the codes that a client may put in a DISCONNECT.
var clientReasons = []codec.ReasonCode{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}

// WithReasonString adds a text for people, such as those that read the server's log, to
// the DISCONNECT (section 3.14.2.2.3), MQTT 5 only. Text that is not UTF-8 is an
// [InvalidError]. It is left out when the server's Maximum Packet Size has no room for it.
func WithReasonString(s string) DisconnectOption {
	return disconnectFunc(func(d *codec.Disconnect) error {
		if err := codec.CheckUTF8(s); err != nil {
			return invalid("reason string", s, problemOf(err))
		}
		if d.Props == nil {
			d.Props = &codec.Properties{}
		}
		d.Props.ReasonString = s
		d.Props.Present = d.Props.Present.With(codec.PropReasonString)
		return nil
	})
}

// Disconnect refuses new publishes, waits until pending ones are resolved, sends
// DISCONNECT, waits for the server to close the connection (section 3.14.4) and ends the
// Conn. Without a link it does not wait: pending publishes fail at once with [ErrClosed].
//
// The context bounds the whole call. The last quarter of its time, 1 s at most, is kept
// for the DISCONNECT and the server's close; a context that has no deadline, or has ended,
// leaves 1 s for them.
//
// Disconnect returns nil when all pending publishes were resolved. Otherwise the error is
// the context's cause, [context.DeadlineExceeded] when the time for them was over,
// [ErrNotConnected] without a link, an [ErrLinkLost], or [ErrClosed] when another call ended
// the Conn earlier. In all these cases the Conn has ended. It goes on after an
// *[InvalidError] or *[VersionError] about the options.
//
// Functions of the application may call Disconnect: the Conn waits less than a second for
// the functions that it calls. Only for a packet hook it waits without limit (see
// [WithPacketHook]): when one has not returned at the end of ctx, the error is a
// *[CallbackError], and the Conn ends when the hook returns; see [Conn.Done].
func (c *Conn) Disconnect(ctx context.Context, opts ...DisconnectOption) error {
	var d codec.Disconnect
	for _, o := range opts {
		if o == nil {
			return nilOption()
		}
		if err := o.applyDisconnect(&d); err != nil {
			return err
		}
	}
	if v := c.Version(); len(opts) > 0 && v != 0 && v != V5 {
		return &VersionError{Feature: "a DISCONNECT with a reason", Version: v}
	}
	wait, cancel := reserveDisconnect(ctx, errDisconnectLate)
	defer cancel()
	return c.close(ctx, wait, d, ErrClosed)
}

// Close is [Conn.Disconnect] within [WithCloseTimeout], 5 s by default. It may be called
// more than once and from several goroutines: every call waits for the end of the Conn,
// and the earliest of their deadlines counts.
func (c *Conn) Close() error {
	return c.closeWithin(context.Background(), c.cfg.closeTimeout, ErrClosed)
}

// Abort closes the socket without a DISCONNECT, so that the server publishes the will,
// and ends the Conn. It returns when the Conn has ended, or after 250 ms when a packet
// hook does not return, see [Conn.Done].
func (c *Conn) Abort() {
	c.abort()
	c.beginClose()
	if l := c.current(); l != nil {
		l.kill(errLocalClose)
	}
	c.cancel(ErrClosed)
	c.awaitDone(c.ctx, c.hooks.running()) // the context has ended
}

// Drain ends the Conn after the application has got the messages that have arrived. They
// are handed over and acknowledged. Messages that arrive from now on are neither, so that
// the server keeps them when the session is kept. When all are handed over, or ctx ends,
// Drain disconnects. A subscription that has no consumer yet keeps its messages,
// unacknowledged.
//
// Drain returns the error of [Conn.Disconnect]. When ctx ended before all messages were
// handed over it returns the context's cause, in a *[CallbackError] if a handler, a codec
// or the body of a loop over All has not returned by then. One of these functions that
// calls Drain waits for itself: its context must have a deadline.
func (c *Conn) Drain(ctx context.Context) error {
	c.draining.Store(true)
	c.unpause()
	wait, cancel := reserveDisconnect(ctx, errDisconnectLate)
	defer cancel()
	subs := c.routes.subscriptions()
	for _, s := range subs {
		if !s.drained(wait) {
			left := undrained(wait, subs)
			c.close(ctx, wait, codec.Disconnect{}, ErrClosed)
			return left
		}
	}
	return c.close(ctx, wait, codec.Disconnect{}, ErrClosed)
}

// Reconnect ends the current link by a DISCONNECT, if there is one, and connects again
// without waiting for the backoff. It does not count as a failure for the backoff, and
// there is no [Retrying] event. It does not wait for the new link, see
// [Conn.WaitConnected]. It returns [ErrClosed] when the Conn is ending or has ended.
func (c *Conn) Reconnect() error {
	c.mu.Lock()
	l, closing := c.link, c.closing
	c.mu.Unlock()
	if closing {
		return ErrClosed
	}
	select {
	case c.retryNow <- struct{}{}: // for a link too: it may die before the DISCONNECT is written
	default:
	}
	if l != nil {
		l.requestEnd()
	}
	return nil
}

// undrained returns why messages of subs were not handed over when ctx ended.
func undrained(ctx context.Context, subs []*Subscription) error {
	for _, s := range subs {
		if name := s.busy(); name != "" {
			return &CallbackError{Function: name, Err: context.Cause(ctx)}
		}
	}
	return context.Cause(ctx)
}

// closeWithin is close with a limit besides ctx.
func (c *Conn) closeWithin(ctx context.Context, limit time.Duration, why error) error {
	late := &timeoutError{"close: not everything was finished within " + limit.String()}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	wait, cancelWait := reserveDisconnect(ctx, late)
	defer cancelWait()
	return c.close(ctx, wait, codec.Disconnect{}, why)
}

// scopeEnded closes the Conn because the context given to Connect ended.
func (c *Conn) scopeEnded(ctx context.Context) {
	err := &scopeError{cause: context.Cause(ctx)}
	c.closeWithin(context.WithoutCancel(ctx), scopeGrace, err)
}

// scopeGrace is how long the end of a Conn may take when its context has ended.
const scopeGrace = time.Second

// close ends the Conn in order because of why. It waits for pending publishes until wait
// ends, the context of [reserveDisconnect], and sends DISCONNECT, which is d, until ctx
// ends.
func (c *Conn) close(ctx, wait context.Context, d codec.Disconnect, why error) error {
	seen := c.hooks.running()
	if !c.beginClose() {
		return c.awaitEnd(ctx, wait)
	}
	var err error
	if l := c.current(); l != nil {
		err = c.flushThenEnd(ctx, wait, l, d)
	} else if c.out.unfinished() {
		err = ErrNotConnected
	}
	c.limitEnd(disconnectBy(ctx))
	c.cancel(why)
	if e := c.awaitDone(ctx, seen); e != nil {
		return e
	}
	return err
}

// beginClose notes that the Conn is closing, and reports whether this call is the first.
func (c *Conn) beginClose() bool {
	c.mu.Lock()
	first := !c.closing
	c.closing = true
	c.mu.Unlock()
	c.timers.stop()
	if first {
		close(c.ending)
		c.setState(StateClosing)
		c.unpause()
		c.out.refuse(ErrClosed)
	}
	return first
}

// unpause lets the reader go on: it does not wait for a subscription any more.
func (c *Conn) unpause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !closed(c.unpauseReader) {
		close(c.unpauseReader)
	}
}

// awaitEnd waits until the Conn has ended, which another call does. When wait ends first
// it makes the end come earlier.
func (c *Conn) awaitEnd(ctx, wait context.Context) error {
	seen := c.hooks.running()
	select {
	case <-c.done:
		return nil
	case <-wait.Done():
	}
	c.endEarlier(disconnectBy(ctx))
	if err := c.awaitDone(ctx, seen); err != nil {
		return err
	}
	return context.Cause(wait)
}

// endEarlier ends the wait for pending publishes. The last connection is closed at the
// time by at the latest.
func (c *Conn) endEarlier(by time.Time) {
	by = c.limitEnd(by)
	c.mu.Lock()
	if !closed(c.closeNow) {
		close(c.closeNow)
	}
	endFirstHalf, l := c.endFirstHalf, c.link
	c.mu.Unlock()
	if endFirstHalf != nil && time.Until(by) < disconnectTime/2 {
		endFirstHalf()
	}
	if l != nil {
		l.endEarlier(by)
	}
}

// flushThenEnd lets pending publishes finish on l until wait ends, then ends l in order.
// It returns why it did not wait for all of the publishes.
func (c *Conn) flushThenEnd(ctx, wait context.Context, l *link, d codec.Disconnect) error {
	var err error
	flushed := c.out.flush()
	if !closed(flushed) {
		select {
		case <-flushed:
		case <-l.dead:
			return c.unfinishedAfter(l)
		case <-wait.Done():
			err = context.Cause(wait)
		case <-c.closeNow:
			err = ErrClosed
		}
	}
	if l.killed() {
		return c.unfinishedAfter(l) // the end of l may have resolved the publishes
	}
	if l.version != V5 {
		d = codec.Disconnect{}
	}
	if !c.endInOrder(l, &d, c.limitEnd(disconnectBy(ctx))) && err == nil && d.Code != codec.Success {
		err = ErrNotConnected // the link was ending already: the server did not get the reason
	}
	return err
}

// unfinishedAfter returns the error for publishes that the end of l left unresolved, nil
// when there are none.
func (c *Conn) unfinishedAfter(l *link) error {
	if c.out.unfinished() {
		return linkLost(l.cause)
	}
	return nil
}

// endInOrder ends l, the last link, by the time by: it stops the delivery of messages,
// sends the acknowledgements of those handed over, and sends DISCONNECT. It reports
// whether d is the DISCONNECT that was sent.
func (c *Conn) endInOrder(l *link, d *codec.Disconnect, by time.Time) bool {
	half, cancel := context.WithDeadline(c.aborted, time.Now().Add(time.Until(by)/2))
	defer cancel()
	c.mu.Lock()
	c.endFirstHalf = cancel
	c.mu.Unlock()
	l.stopReader(half)
	c.stopHandOver(half)
	c.ledger.payAcks()
	if c.out.journal != nil {
		// Acknowledgements may wait for their records.
		end, _ := half.Deadline()
		c.out.flushStore(time.Until(end))
	}
	l.awaitReleases(half)
	sent := l.disconnect(d, c.limitEnd(by))
	<-l.dead // also when the buffer had a DISCONNECT already
	return sent
}

// stopHandOver makes every subscription keep the messages that it has not handed over
// yet, which the server or the inbox has too. It waits, until ctx ends, for the sends
// into channels that have begun.
func (c *Conn) stopHandOver(ctx context.Context) {
	var sends []<-chan struct{}
	for _, s := range c.routes.subscriptions() {
		sends = append(sends, s.halt())
	}
	for _, sent := range sends {
		select {
		case <-sent:
		case <-ctx.Done():
			return
		}
	}
}

// limitEnd notes the time by which a caller wants the last connection closed, and returns
// the earliest of these times.
func (c *Conn) limitEnd(by time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endBy.IsZero() || by.Before(c.endBy) {
		c.endBy = by
	}
	return c.endBy
}

// unusedBy returns the time by which a connection that has no link is to be closed.
func (c *Conn) unusedBy() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := time.Now().Add(faultTime)
	if !c.endBy.IsZero() && c.endBy.Before(by) {
		by = c.endBy
	}
	return by
}

// awaitDone waits for the end of the Conn, which is closing. A packet hook that does not
// return holds up a goroutine of the link: when ctx has ended and one call has lasted for
// killTime, counted from the time of seen, awaitDone returns an error instead.
func (c *Conn) awaitDone(ctx context.Context, seen runningCalls) error {
	ended := ctx.Done()
	for {
		now := c.hooks.running()
		switch {
		case !seen.stuck(now):
			seen = now
		case ctx.Err() != nil && now.at.Sub(seen.at) >= killTime:
			return &CallbackError{Function: packetHook, Err: context.Cause(ctx)}
		}
		timer := time.NewTimer(killTime)
		select {
		case <-c.done:
			timer.Stop()
			return nil
		case <-ended:
			ended = nil
		case <-timer.C:
		}
		timer.Stop()
	}
}

// finish ends the Conn once its supervisor has no link any more.
func (c *Conn) finish(err error) {
	c.beginClose()
	c.stopCtx()
	c.cancel(err)
	if c.out.journal != nil {
		c.out.flushStore(c.cfg.closeTimeout) // records that are gathered may still be written
	}
	c.out.shutdown(closedBy(err))
	<-c.out.ended
	for _, s := range c.routes.subscriptions() {
		c.retire(s, err, leaveServer)
	}
	c.awaitPumps()
	if c.out.journal != nil {
		if err := c.out.closeStore(c.cfg.closeTimeout); err != nil {
			c.info("store", "error", err)
		}
	}
	c.mu.Lock()
	c.err = err
	c.state = StateClosed
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	c.info("closed", "error", err)
	c.emit(Closed{Err: err})
	close(c.done)
}

// awaitPumps waits for the pumps, which have nothing more to do. A codec that does not
// return is left behind: it may itself wait for the end of the Conn.
func (c *Conn) awaitPumps() {
	done := make(chan struct{})
	go func() { c.up.pumps.Wait(); close(done) }() // ends when the last codec has returned
	timer := time.NewTimer(killTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
