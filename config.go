package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/transport"
)

// config is the result of the options of Connect. It does not change afterwards.
type config struct {
	servers  []*transport.URL
	versions []Version
	dialer   transport.Dialer

	clientID         string
	session          time.Duration // 0: clean
	store            store.Store
	storeMemory      int
	keepAlive        time.Duration // 0: the default of the URL, negative: none
	pingTimeout      time.Duration
	connectTimeout   time.Duration
	closeTimeout     time.Duration
	subscribeWait    time.Duration
	stableAfter      time.Duration
	ackTimeout       time.Duration
	ackOverdue       time.Duration
	stuckAfter       time.Duration
	ackGrace         time.Duration
	backlogGrace     time.Duration // negative: none
	backoff          backoff.Policy
	onError          func(error) Decision
	credentials      func(context.Context) (Credentials, error)
	fixedCredentials Credentials
	will             *Will
	connectProps     *codec.Properties
	queue            queueConfig
	receiveMax       int
	inboundLimit     int
	propertyLimit    int
	maxSubscribe     int // filters in a packet
	logger           *slog.Logger
	hook             func(PacketInfo)
	declared         []declaration
	catchAll         *subOptions
	errs             []error
	clock            clock

	serverAssignsID        bool
	fresh                  bool
	inbox                  bool
	firstConnect           FirstConnect
	reconnectAfterTakeover bool
	downgradeOnClose       bool
	receiveMaxSet          bool // by WithReceiveMaximum
	resubscribeAlways      bool // also when the session was resumed
	endOnFaulty            bool // by WithEndOnFaultyMessage
	hookPayload            bool // the packet hook gets payloads
}

// declaration is one WithSubscription.
type declaration struct {
	filters []Filter
	opts    subOptions
}

// defaults returns the values of options that are not set. docs/options.md lists them.
func defaults() config {
	return config{
		versions:       []Version{V5, V311},
		pingTimeout:    10 * time.Second,      // a slow mobile round trip and a retransmission or two
		connectTimeout: 10 * time.Second,      // one server: resolve, dial, TLS and CONNACK together
		closeTimeout:   5 * time.Second,       // half of the time that orchestrators leave after SIGTERM
		subscribeWait:  10 * time.Second,      // brokers answer in milliseconds
		stableAfter:    10 * time.Second,      // enough for a server that cuts links right after CONNACK to show it
		ackOverdue:     10 * time.Second,      // longer may mean that the application forgot the message
		stuckAfter:     30 * time.Second,      // so long a consumer that makes no progress may hold up the link
		ackGrace:       10 * time.Second,      // long enough to finish with a message, short enough not to stop the others
		backlogGrace:   10 * time.Second,      // the time that an application takes to subscribe again
		backoff:        backoff.Exponential{}, // 1 s doubling to 120 s, full jitter
		queue: queueConfig{
			messages: 65536, bytes: 64 << 20, // bounded, and enough for a broker's restart
			inflight5: 1024, // never above the server's Receive Maximum
			inflight3: 20,   // the server announces no limit there; Mosquitto drops or cuts beyond 20
		},
		storeMemory:   16 << 20, // a second's worth of sending, to read ahead of the disk
		receiveMax:    1024,     // the same number for the other direction
		inboundLimit:  64 << 20, // larger than any sane message, smaller than memory
		propertyLimit: 1 << 20,  // sixteen of the largest texts
		maxSubscribe:  8,        // the limit of AWS IoT
		logger:        slog.New(slog.DiscardHandler),
		clock:         systemClock,
	}
}

const (
	// defaultKeepAlive is that of the Paho clients; NATs forget idle flows after minutes.
	defaultKeepAlive = 60 * time.Second
	// defaultWebSocketKeepAlive is below the 60 s after which nginx and many load
	// balancers cut an idle WebSocket.
	defaultWebSocketKeepAlive = 45 * time.Second
)

// keepAliveFor returns the keep alive that CONNECT to u announces, 0 for none.
func (c *config) keepAliveFor(u *transport.URL) time.Duration {
	switch {
	case c.keepAlive != 0:
		return max(c.keepAlive, 0)
	case u.WebSocket():
		return defaultWebSocketKeepAlive
	default:
		return defaultKeepAlive
	}
}

// newConfig applies the options. Its error joins all problems.
func newConfig(server string, opts []ConnectOption) (*config, error) {
	c := defaults()
	c.connectProps = &codec.Properties{}
	c.addServer(server)
	for _, o := range opts {
		if o == nil {
			c.errs = append(c.errs, nilOption())
			continue
		}
		o.applyConnect(&c)
	}
	c.validate()
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	if c.clientID == "" && !c.serverAssignsID {
		c.clientID = generateClientID()
	}
	return &c, nil
}

// validate adds the problems of options that single options cannot see.
func (c *config) validate() {
	bad := func(what, problem string) { c.errs = append(c.errs, invalid(what, "", problem)) }
	if len(c.versions) == 0 {
		bad("version list", "is empty")
	}
	v3 := false
	for _, v := range c.versions {
		if !v.Valid() {
			bad("version list", "has a version that is not 3.1, 3.1.1 or 5.0")
		}
		v3 = v3 || v != V5
	}
	if err := codec.CheckUTF8(c.clientID); err != nil {
		bad("client identifier", problemOf(err))
	}
	if c.serverAssignsID && c.clientID != "" {
		bad("client identifier", "is given, and the server is asked to assign one")
	}
	if c.serverAssignsID && v3 && c.session > 0 {
		bad("client identifier", "must not be empty for a session that is kept, on MQTT 3.x [MQTT-3.1.3-7]")
	}
	if !c.serverAssignsID && c.clientID == "" && c.session > 0 {
		bad("client identifier", "is needed for a session that is kept: a generated one would not find it again")
	}
	if c.store != nil && (c.session == 0 || c.serverAssignsID) {
		bad("session store", "needs WithSession and WithClientID: what it keeps is only of use with the server's side of the session")
	}
	if c.inbox && c.store == nil {
		bad("durable inbox", "needs WithStore: that is where it is")
	}
	if c.keepAlive > 65535*time.Second {
		bad("keep alive", "must be at most 65,535 s")
	}
	for _, d := range []time.Duration{c.pingTimeout, c.connectTimeout, c.closeTimeout, c.subscribeWait, c.stableAfter, c.ackTimeout, c.ackOverdue, c.stuckAfter} {
		if d < 0 {
			bad("duration", "must not be negative")
		}
	}
	if err := checkUser(c.connectProps.User); err != nil {
		c.errs = append(c.errs, err)
	}
	c.checkWill()
	c.checkTransports()
	c.checkCredentials(&c.fixedCredentials)
	for _, d := range c.declared {
		for _, f := range d.filters {
			if err := d.opts.check(f); err != nil {
				c.errs = append(c.errs, err)
			}
		}
	}
}

// checkTransports adds the problems of options that no URL can use: a connection in the clear
// that was meant to be encrypted must not be made silently. A credentials function may name
// another URL, and is checked at each attempt.
func (c *config) checkTransports() {
	if c.credentials != nil {
		return
	}
	var use transportUse
	for _, u := range c.servers {
		use.add(u)
	}
	if err := use.unused(c.dialer.TLS != nil, c.dialer.Header != nil || c.dialer.HeaderFunc != nil); err != nil {
		c.errs = append(c.errs, err)
	}
}

// transportUse says what the URLs of an attempt can use.
type transportUse struct{ tls, header bool }

func (t *transportUse) add(u *transport.URL) {
	t.tls, t.header = t.tls || u.TLS(), t.header || u.WebSocket()
}

// unused returns the error of a TLS configuration or a header that was given and would not
// be used.
func (t *transportUse) unused(tls, header bool) error {
	switch {
	case tls && !t.tls:
		return invalid("TLS configuration", "", "is given, and no URL uses TLS: mqtts:// and wss:// do, mqtt:// and ws:// are in the clear")
	case header && !t.header:
		return invalid("header", "", "is given, and no URL uses WebSocket: ws:// and wss:// do")
	}
	return nil
}

// checkWill adds the problems of the will.
func (c *config) checkWill() {
	if c.will == nil {
		return
	}
	if c.will.Delay < 0 {
		c.errs = append(c.errs, invalid("will delay", c.will.Delay.String(), "is negative"))
	}
	if len(c.will.Payload) > 65535 {
		c.errs = append(c.errs, invalid("will payload", "", "is longer than 65,535 bytes"))
	}
	if _, err := checkOutgoing(&c.will.Message); err != nil {
		c.errs = append(c.errs, err)
	}
}

// checkCredentials adds the problems of cr that it has in every protocol version.
func (c *config) checkCredentials(cr *Credentials) {
	if cr.Username != nil {
		if err := codec.CheckUTF8(*cr.Username); err != nil {
			c.errs = append(c.errs, &InvalidError{What: "user name", Problem: problemOf(err)})
		}
	}
	if len(cr.Password) > 65535 {
		c.errs = append(c.errs, invalid("password", "", "is longer than 65,535 bytes"))
	}
}

// checkGiven returns why the attempt that a credentials function describes cannot be as it
// says: with a TLS configuration or a header that u does not use, or in the clear instead of
// instead, a URL of Connect that uses TLS as WithTLS says.
func (c *config) checkGiven(u, instead *transport.URL, cr *Credentials) error {
	var use transportUse
	use.add(u)
	return use.unused(cr.TLS != nil || instead.TLS() && c.dialer.TLS != nil, cr.Header != nil)
}

// problem joins the problems that were found after newConfig, by newConn.
func (c *config) problem() error { return errors.Join(c.errs...) }
