package mqtt

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// State is where a Conn stands.
type State uint8

// The states of a Conn.
const (
	// StateConnecting: an attempt is under way, or the first is about to begin.
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
	return [...]string{"connecting", "connected", "waiting", "closing", "closed"}[min(s, StateClosed)]
}

// Conn is a client of one server, or one cluster of servers. It outlives the
// links that it makes: publishes under way, subscriptions and their channels
// carry on over reconnects. All methods may be called from any goroutine.
type Conn struct {
	cfg    *config
	out    *outbound
	ledger *ledger
	routes *routes
	events *events
	log    *slog.Logger
	seed   maphash.Seed
	subs   atomic.Uint64   // subscriptions made
	pumps  sync.WaitGroup  // goroutines that hand messages over, those in user code left out
	scope  context.Context // the one given to Connect

	restored bool   // the session store knew the session before
	inbox    *inbox // nil without one

	declared map[string]*Subscription
	aborted  context.Context    // ended by Abort: no DISCONNECT
	abort    context.CancelFunc // and what ends it
	draining atomic.Bool        // what arrives is the server's to keep
	passed   map[faultKey]bool  // faulty messages to pass over; the reader's while a link is up, else the supervisor's

	ctx    context.Context // ends when the Conn must not make or keep a link
	cancel context.CancelCauseFunc
	done   chan struct{}
	lift   chan struct{} // closed when nothing may hold the reader back any more
	hurry  chan struct{} // closed when pending publishes have been waited for long enough
	nudge  chan struct{} // ends a wait for the next attempt
	ending chan struct{} // closed when the Conn begins to close
	hooks  hookMarks

	mu       sync.Mutex // guards the rest; nothing that blocks happens under it
	state    State
	link     *link
	err      error // why it ended
	closing  bool
	lifted   bool
	hurried  bool
	endBy    time.Time          // by when the last connection is to be closed, as the least patient caller wants it
	endHalf  context.CancelFunc // ends the wait for what precedes the DISCONNECT; nil before it
	clientID string
	changed  chan struct{} // closed and made anew at every change of state
	stopCtx  func() bool
	timers   map[*time.Timer]struct{}

	stats connStats
}

// Connect makes a Conn to the server at url and keeps it until ctx ends or
// Close is called.
//
// The context scopes the Conn: its end closes it. Giving it a deadline for
// connecting is therefore wrong:
//
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel() // closes the Conn when this function returns
//	conn, err := mqtt.Connect(ctx, url)
//
// Use [WithConnectTimeout], which bounds an attempt.
//
// The scheme of url picks the transport: mqtt or tcp (port 1883), mqtts, ssl or
// tls (8883), ws (80), wss (443), unix, and mqtt+srv or mqtts+srv for a DNS
// look-up. user:password@ in it gives the credentials. By default Connect
// returns when the server has accepted the connection, or one round over the
// servers failed; see [WithFirstConnect].
//
// The error is a *[InvalidError] for what was given, found before any I/O, or a
// *[ConnectError] that wraps the reason.
func Connect(ctx context.Context, url string, opts ...ConnectOption) (*Conn, error) {
	cfg, err := newConfig(url, opts)
	if err != nil {
		return nil, err
	}
	c := newConn(ctx, cfg)
	if err := c.cfg.problem(); err != nil {
		return nil, err
	}
	if err := c.openStore(); err != nil {
		return nil, err
	}
	first := make(chan error, 1)
	// Under mu, which the end of ctx takes first; before the goroutines that stop the watch.
	c.mu.Lock()
	c.stopCtx = context.AfterFunc(ctx, func() { c.scopeEnded(ctx) })
	c.mu.Unlock()
	go c.out.resolve()
	go c.supervise(first)
	if cfg.firstConnect != FirstConnectBackground {
		if err := <-first; err != nil {
			<-c.done
			return nil, err
		}
	}
	c.setLive()
	return c, nil
}

func newConn(ctx context.Context, cfg *config) *Conn {
	c := &Conn{
		cfg:      cfg,
		scope:    ctx,
		declared: map[string]*Subscription{},
		log:      cfg.logger,
		seed:     maphash.MakeSeed(),
		events:   newEvents(),
		done:     make(chan struct{}),
		lift:     make(chan struct{}),
		hurry:    make(chan struct{}),
		nudge:    make(chan struct{}, 1),
		ending:   make(chan struct{}),
		changed:  make(chan struct{}),
		clientID: cfg.clientID,
		timers:   map[*time.Timer]struct{}{},
		stopCtx:  func() bool { return true },
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.aborted, c.abort = context.WithCancel(context.Background())
	c.out = newOutbound(cfg.queue, c.emit)
	c.out.uptime = cfg.clock.uptime
	c.ledger = &ledger{pay: c.out.pay}
	c.routes = newRoutes(c)
	for _, d := range cfg.declared {
		s := newSubscription(c, d.filters, d.opts)
		s.opts.async = true // nobody waits for its answer
		if err := c.routes.add(s); err != nil {
			c.cfg.errs = append(c.cfg.errs, err)
		}
		c.declared[d.filters[0].Filter] = s
	}
	if cfg.catchAll != nil {
		c.routes.openCatchAll(*cfg.catchAll)
	}
	return c
}

// emit hands an event to the listeners.
func (c *Conn) emit(ev Event) { c.events.emit(ev) }

// info logs msg with the client identifier and the number of the link, the last
// one when none is up.
func (c *Conn) info(msg string, args ...any) {
	c.record(slog.LevelInfo, msg, append([]any{"client", c.ClientID(), "link", c.events.linkNo()}, args...)...)
}

// Events returns the channel of events, the same on every call. Nothing waits
// for its reader: the oldest event gives way, and the next one says how many
// were missed. It is closed after [Closed].
func (c *Conn) Events() <-chan Event { return c.events.main.ch }

// Watch returns a channel of events of its own, which begins with the last one
// that told the state. It is closed when ctx or the Conn ends.
func (c *Conn) Watch(ctx context.Context) <-chan Event { return c.events.watch(ctx) }

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

// State returns where the Conn stands; it may have changed when the caller looks.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// ClientID returns the client identifier in use: given, generated, or assigned
// by the server.
func (c *Conn) ClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

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

// Publish sends m, or queues it while the window is full or there is no link.
// It returns a Future that tells what became of it, never nil. A message that
// is not valid, and a QoS 0 message without a link (see [WithQueueQoS0]), are
// refused by a Future that has failed.
//
// The context bounds only the wait for a place in the queue when the queue is
// at its limit and its policy is to wait; once accepted, the exchange goes on
// whatever becomes of ctx. Under a context that has ended nothing is accepted:
// the Future fails with the context's cause. The payload may be reused when
// Publish returns, unless it was given away with [Message.GiveAway].
func (c *Conn) Publish(ctx context.Context, m Message) *Future {
	return c.out.publish(ctx, &m, true)
}

// TryPublish is Publish that never waits: where Publish would, the Future fails
// with [ErrQueueFull].
func (c *Conn) TryPublish(m Message) *Future {
	return c.out.publish(context.Background(), &m, false)
}

// Lookup returns the Future of the message under way that was published with key
// (see [Properties]), by this process or, with a session store, by an earlier
// one; nil when there is none: it was delivered, or failed, or never stored.
func (c *Conn) Lookup(key string) *Future { return c.out.lookup(key) }

// Flush waits until everything accepted so far is resolved. The context bounds
// the wait.
func (c *Conn) Flush(ctx context.Context) error {
	select {
	case <-c.out.flush():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Reconnect ends the current link by a DISCONNECT, if there is one, and connects
// anew without waiting for the backoff. It is no failure: the backoff does not count
// it, and no [Retrying] event comes of it. It does not wait for the new link, see
// [Conn.WaitConnected]. It returns [ErrClosed] when the Conn has ended or is
// about to.
func (c *Conn) Reconnect() error {
	c.mu.Lock()
	l, closing := c.link, c.closing
	c.mu.Unlock()
	if closing {
		return ErrClosed
	}
	select {
	case c.nudge <- struct{}{}: // for a link too: it may die before the DISCONNECT is written
	default:
	}
	if l != nil {
		l.endLater()
	}
	return nil
}

// scopeEnded closes the Conn because the context given to Connect ended.
func (c *Conn) scopeEnded(ctx context.Context) {
	err := &scopeError{cause: context.Cause(ctx)}
	c.closeWithin(context.WithoutCancel(ctx), scopeGrace, err)
}

// scopeGrace is how long a Conn whose context ended may take to say goodbye.
const scopeGrace = time.Second

// scopeError says that the context given to Connect ended.
type scopeError struct{ cause error }

func (e *scopeError) Error() string {
	return fmt.Sprintf("mqtt: the context given to Connect ended (%v); it scopes the Conn, use WithConnectTimeout for the dial", e.cause)
}

func (e *scopeError) Unwrap() error { return e.cause }

// Is makes it an ErrClosed too.
func (e *scopeError) Is(target error) bool { return target == ErrClosed }

// finished notes that the application is done with messages.
func (c *Conn) finished(msgs ...Message) {
	if c.ledger.doneAll(msgs) {
		c.ledger.settle()
	}
}

// unmatched counts a message without a subscription.
func (c *Conn) unmatched(topic string) {
	n := c.stats.unmatched.Add(1)
	c.emit(MessageUnmatched{Topic: topic, Count: 1, Total: n})
}

// tooLarge counts a message above our limit on 3.x.
func (c *Conn) tooLarge(topic string, size int) {
	n := c.stats.oversize.Add(1)
	c.emit(MessageDropped{Topic: topic, Size: size, Total: n, Err: &PacketTooLargeError{Size: size, Max: c.cfg.inboundLimit}})
}

// evict ends a subscription that does not take its messages.
func (c *Conn) evict(s *Subscription) {
	c.emit(SlowConsumer{Filter: s.name(), Pending: s.Stats().Pending, Dropped: s.dropped.Load(), Evicted: true})
	c.lose(s, ErrSlowConsumer)
}

// later runs f after d, unless the Conn ends before.
func (c *Conn) later(d time.Duration, f func()) *time.Timer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return time.NewTimer(0)
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		c.mu.Lock()
		_, live := c.timers[t]
		delete(c.timers, t)
		c.mu.Unlock()
		if live {
			f()
		}
	})
	c.timers[t] = struct{}{}
	return t
}
