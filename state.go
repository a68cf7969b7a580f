package mqtt

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// This file is what the application sees of a Conn: its state, figures and events.

// State is the state of a Conn, see [Conn.State].
type State uint8

// The states of a Conn.
const (
	// StateConnecting: an attempt to connect is being made, or the first is about to begin.
	StateConnecting State = iota
	// StateConnected: the server has accepted the connection.
	StateConnected
	// StateWaiting: waiting before the next attempt.
	StateWaiting
	// StateClosing: the Conn is ending, by a call or because the context of Connect ended.
	StateClosing
	// StateClosed: the Conn has ended; [Conn.Err] says why.
	StateClosed
)

// String names the state.
func (s State) String() string {
	return valueName("state", uint8(s), "connecting", "connected", "waiting", "closing", "closed")
}

// State returns the state of the Conn; it may have changed when the caller reads the
// result.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Done returns a channel that is closed when the Conn has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil until the Conn has ended, and then the reason: [ErrClosed] after Close,
// Disconnect, Drain or Abort, an [ErrClosed] that wraps the cause when Connect's context
// ended, or the error after which the Conn did not connect again.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ClientID returns the client identifier in use: given, generated, or assigned
// by the server.
func (c *Conn) ClientID() string { return *c.clientID.Load() }

// Version returns the protocol version of the current link, 0 without one.
func (c *Conn) Version() Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return 0
	}
	return c.link.version
}

// WaitConnected waits until the Conn is connected. It returns the context's cause when
// ctx ends first, [ErrClosed] when the Conn is ending, and the error of [Conn.Err] when it
// has ended. The link may have ended again when WaitConnected returns nil.
func (c *Conn) WaitConnected(ctx context.Context) error {
	for {
		c.mu.Lock()
		state, changed, err := c.state, c.changed, c.err
		c.mu.Unlock()
		switch state {
		case StateConnected:
			return nil
		case StateClosing:
			return ErrClosed
		case StateClosed:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Stats returns figures of the Conn, all links together.
func (c *Conn) Stats() Stats {
	_, owed, _ := c.ledger.oldest()
	s := Stats{
		Links: c.stats.links.Load(), Received: c.stats.received.Load(), Redelivered: c.stats.duplicates.Load(),
		Suspected: c.stats.suspected.Load(), Unmatched: c.stats.unmatched.Load(), Oversize: c.stats.oversize.Load(), Faulty: c.stats.faulty.Load(),
		AcksOwed: owed, Held: c.held(), LeftBehind: c.stats.leftBehind.Load(), RTT: time.Duration(c.stats.rtt.Load()),
	}
	c.out.addStats(&s)
	return s
}

// Events returns the channel of events, the same on every call. It has room for 64
// events; when it is full the oldest one is dropped, and [EventInfo] of the next one has
// the number of those missed. It is closed after [Closed].
func (c *Conn) Events() <-chan Event { return c.events.main.ch }

// Watch returns a new channel of events, as [Conn.Events] does. Its first event is the
// last one that changed the state. It is closed when ctx or the Conn ends.
func (c *Conn) Watch(ctx context.Context) <-chan Event { return c.events.watch(ctx) }

// setState sets the state. A Conn that is closing keeps its state until it is closed.
func (c *Conn) setState(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state >= StateClosing && s < StateClosing || c.state == StateClosed {
		return
	}
	c.state = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// held returns how many messages wait for a Subscribe, or in the inbox for a subscription.
func (c *Conn) held() int {
	n := c.routes.heldMessages()
	if c.inbox != nil {
		n += int(c.inbox.storedOnly.Load())
	}
	return n
}

// current returns the link that is up, nil when there is none.
func (c *Conn) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// isClosing reports whether the Conn is ending, or has ended.
func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// endsInOrder reports whether the Conn is ending, and not by Abort.
func (c *Conn) endsInOrder() bool { return c.isClosing() && c.aborted.Err() == nil }

// String names the client identifier and the state. A Conn holds headers, passwords and
// keys: none is shown, whatever prints it, and printing it while it works is no race.
func (c *Conn) String() string { return fmt.Sprintf("mqtt.Conn(%q, %v)", c.ClientID(), c.State()) }

// GoString is String.
func (c *Conn) GoString() string { return c.String() }

// Format is String, whatever the verb.
func (c *Conn) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String.
func (c *Conn) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText is String.
func (c *Conn) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
