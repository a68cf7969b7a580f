package mqtt

import (
	"context"
	"time"
)

// This file is what the application sees of a Conn: its state, figures and events.

// State is where a Conn stands.
type State uint8

// The states of a Conn.
const (
	// StateConnecting: an attempt is being made, or the first is about to begin.
	StateConnecting State = iota
	// StateConnected: the server has accepted the connection.
	StateConnected
	// StateWaiting: waiting before the next attempt.
	StateWaiting
	// StateClosing: Disconnect or Close was called, or the context ended.
	StateClosing
	// StateClosed: ended; Err says why.
	StateClosed
)

// String names the state.
func (s State) String() string {
	return valueName("state", uint8(s), "connecting", "connected", "waiting", "closing", "closed")
}

// State returns where the Conn stands; it may have changed when the caller looks.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Done returns a channel that is closed when the Conn has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil while the Conn lives, then why it ended: [ErrClosed] after
// Close or Disconnect, an error that wraps the cause of Connect's context, or
// what made the Conn give up.
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

// WaitConnected waits until the Conn is connected, and returns nil then, the
// context's cause when ctx ends first, and the Conn's error when it has ended.
// The link may be gone again when it returns.
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

// Stats returns figures of the Conn.
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

// Events returns the channel of events, the same on every call. Nothing waits
// for its reader: the oldest event gives way, and the next one says how many
// were missed. It is closed after [Closed].
func (c *Conn) Events() <-chan Event { return c.events.main.ch }

// Watch returns a channel of events of its own, which begins with the last one
// that changed the state. It is closed when ctx or the Conn ends.
func (c *Conn) Watch(ctx context.Context) <-chan Event { return c.events.watch(ctx) }

// setState notes a change of state, unless the Conn is further already.
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

// held returns how many messages wait for a Subscribe, or in the inbox.
func (c *Conn) held() int {
	n := c.routes.held()
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

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// endsInOrder reports whether the Conn is ending, and not by Abort.
func (c *Conn) endsInOrder() bool { return c.isClosing() && c.aborted.Err() == nil }
