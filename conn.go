package mqtt

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

// Conn is a client of one server, or of one cluster of servers. It outlives the network
// connections that it makes, its links: publishes in flight, subscriptions and their
// channels go on over reconnects. All methods may be called from any goroutine.
type Conn struct {
	session
	scope    context.Context          // given to Connect
	declared map[string]*Subscription // by the filters of WithSubscription
	restored bool                     // the session store had the session already

	abort    context.CancelFunc // ends aborted
	ctx      context.Context    // ends when the Conn must not make or keep a link
	cancel   context.CancelCauseFunc
	closeNow chan struct{} // closed when the wait for pending publishes has to end
	retryNow chan struct{} // has a token when the next attempt is to be made at once

	mu           sync.Mutex // guards the rest; nothing that blocks happens under it
	state        State
	link         *link
	err          error // why it ended
	closing      bool
	endBy        time.Time          // when the last connection is to be closed: the earliest time that a caller wants
	endFirstHalf context.CancelFunc // ends the waits before the last DISCONNECT; nil before they begin
	changed      chan struct{}      // closed and made anew at every change of state
	stopCtx      func() bool
}

// Connect makes a Conn to the server at url. The Conn connects again when a link ends,
// until ctx ends, [Conn.Close] or another method ends it, or trying again is given up,
// see [WithErrorPolicy].
//
// When ctx ends the Conn closes. A deadline for connecting does therefore not belong in
// it:
//
//	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
//	defer cancel() // closes the Conn when this function returns
//	conn, err := mqtt.Connect(ctx, url)
//
// [WithConnectTimeout] bounds an attempt instead.
//
// The scheme of url chooses the transport: mqtt or tcp (port 1883), mqtts, ssl or tls
// (8883), ws (80), wss (443), unix, and mqtt+srv or mqtts+srv for a domain whose DNS SRV
// records name the servers. A user name and a password in url, as in
// mqtt://user:password@host, are the credentials.
//
// By default Connect returns when a server has accepted the connection, or when it has
// tried each server once and none has; [WithFirstConnect] changes that.
//
// The error is an *[InvalidError] for a url or an option that is not valid, before any
// I/O; a *[StoreError] when the session store cannot be opened; [ErrClosed] when ctx
// ended; else a *[ConnectError] that wraps the reason. Several errors are joined.
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
	// Under mu, which the end of ctx takes first. Before the goroutines that call stopCtx begin.
	c.mu.Lock()
	c.stopCtx = context.AfterFunc(ctx, func() { c.scopeEnded(ctx) })
	c.mu.Unlock()
	// Owned by the Conn. The supervisor ends last and waits for resolve; Done waits for it.
	go c.out.resolve()
	go newSupervisor(c, first).supervise()
	if cfg.firstConnect != FirstConnectBackground {
		if err := <-first; err != nil {
			<-c.done
			return nil, err
		}
	}
	c.beginInbox()
	return c, nil
}

// newConn makes the Conn of cfg and ties its parts. It starts no goroutine.
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
		if c.declared == nil {
			c.declared = map[string]*Subscription{}
		}
		c.declared[d.filters[0].Pattern] = s
	}
	if cfg.catchAll != nil {
		c.routes.openCatchAll(*cfg.catchAll)
	}
	return c
}

// wire ties the parts of the session together; openInbox adds the durable inbox. Each
// part knows those below it, and calls those above only by the fields in brackets:
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
