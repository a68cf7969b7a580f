package mqtt

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Conn is a client of one server, or one cluster of servers. It outlives the
// links that it makes: publishes in flight, subscriptions and their channels
// carry on over reconnects. All methods may be called from any goroutine.
type Conn struct {
	session
	scope    context.Context          // the one given to Connect
	declared map[string]*Subscription // by the filters of WithSubscription
	restored bool                     // the session store knew the session before

	abort    context.CancelFunc // ends aborted
	ctx      context.Context    // ends when the Conn must not make or keep a link
	cancel   context.CancelCauseFunc
	closeNow chan struct{} // closed when pending publishes have been waited for long enough
	retryNow chan struct{} // ends a wait for the next attempt

	mu      sync.Mutex // guards the rest; nothing that blocks happens under it
	state   State
	link    *link
	err     error // why it ended
	closing bool
	endBy   time.Time          // by when the last connection is to be closed, as the least patient caller wants it
	endHalf context.CancelFunc // ends the wait for what precedes the DISCONNECT; nil before it
	changed chan struct{}      // closed and made anew at every change of state
	stopCtx func() bool
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
	go newSupervisor(c, first).supervise()
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
		session: session{
			reporter:      newReporter(cfg.logger, cfg.clientID),
			cfg:           cfg,
			seed:          maphash.MakeSeed(),
			hooks:         packetHooks{hook: cfg.hook, payload: cfg.hookPayload},
			unpauseReader: make(chan struct{}),
			done:          make(chan struct{}),
		},
		scope:    ctx,
		declared: map[string]*Subscription{},
		closeNow: make(chan struct{}),
		retryNow: make(chan struct{}, 1),
		changed:  make(chan struct{}),
		stopCtx:  func() bool { return true },
	}
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.aborted, c.abort = context.WithCancel(context.Background())
	c.wire()
	for _, d := range cfg.declared {
		s := newSubscription(c.up, d.filters, d.opts)
		s.opts.async = true // no call waits for its answer
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

// wire ties the parts of the session together; openInbox adds the durable inbox. Each
// part knows those below it, and calls up by what stands in brackets alone:
//
//	Conn, supervisor
//	  link: reader, writer, keepalive
//	    session
//	      inbox         (giveUpFilters of routes)
//	      routes        (tell: answers to Subscribe)
//	      Subscription  (upstream.home, upstream.inbox)
//	      ledger        (pay, keep)
//	      outbound      (log)
//	        reporter    events and log records
func (s *session) wire() {
	s.out = newOutbound(s.cfg.queue, s.emit)
	s.out.uptime = s.cfg.clock.uptime
	s.ledger = &ledger{pay: s.out.pay}
	s.routes = newRoutes(s.cfg)
	s.up = &upstream{reporter: s.reporter, ledger: s.ledger, home: s, grants: &s.routes.mu}
	s.routes.out, s.routes.upstream, s.routes.tell = s.out, s.up, s.tellSubscribed
}

// Events returns the channel of events, the same on every call. Nothing waits
// for its reader: the oldest event gives way, and the next one says how many
// were missed. It is closed after [Closed].
func (c *Conn) Events() <-chan Event { return c.events.main.ch }

// Watch returns a channel of events of its own, which begins with the last one
// that told the state. It is closed when ctx or the Conn ends.
func (c *Conn) Watch(ctx context.Context) <-chan Event { return c.events.watch(ctx) }

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

// Lookup returns the Future of the message in flight that was published with key
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
	case c.retryNow <- struct{}{}: // for a link too: it may die before the DISCONNECT is written
	default:
	}
	if l != nil {
		l.endLater()
	}
	return nil
}
