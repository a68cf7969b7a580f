package mqtt

import (
	"log/slog"
	"slices"
	"time"

	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// ConnectOption changes how [Connect] makes and keeps the connection. The functions
// that return one are all there are; nil is refused with an [InvalidError].
type ConnectOption interface {
	applyConnect(*config)
}

// connectFunc is a ConnectOption made of a function.
type connectFunc func(*config)

func (f connectFunc) applyConnect(c *config) { f(c) }

// FirstConnect says what Connect does about the first connection.
type FirstConnect uint8

const (
	// FirstConnectFail returns the error when one round over the servers failed.
	FirstConnectFail FirstConnect = iota
	// FirstConnectRetry keeps trying until it succeeds or the context ends.
	FirstConnectRetry
	// FirstConnectBackground returns at once; the Conn connects by itself.
	FirstConnectBackground
)

// String names the value.
func (f FirstConnect) String() string {
	return valueName("first connect", uint8(f), "fail", "retry", "background")
}

// Decision is what a policy function says about a failed attempt or a lost link.
type Decision uint8

const (
	// DecideDefault leaves it to the library.
	DecideDefault Decision = iota
	// DecideRetry tries again after the backoff.
	DecideRetry
	// DecideStop ends the Conn with the error.
	DecideStop
)

// String names the decision.
func (d Decision) String() string {
	return valueName("decision", uint8(d), "default", "retry", "stop")
}

// WithServers adds servers to try, in order, after the one given to Connect.
// They are one logical cluster: a session is expected to be found at any of them.
func WithServers(urls ...string) ConnectOption {
	return connectFunc(func(c *config) {
		for _, raw := range urls {
			c.addServer(raw)
		}
	})
}

func (c *config) addServer(raw string) {
	u, err := transport.Parse(raw)
	if err != nil {
		c.errs = append(c.errs, &InvalidError{What: "server URL", Problem: err.Error()})
		return
	}
	c.servers = append(c.servers, u)
}

// WithClientID sets the client identifier. Without it one is generated, of at
// most 23 letters and digits.
func WithClientID(id string) ConnectOption { return connectFunc(func(c *config) { c.clientID = id }) }

// WithServerAssignedClientID sends an empty client identifier: an MQTT 5 server
// assigns one, which is then kept for the life of the Conn (section 3.1.3.1).
func WithServerAssignedClientID() ConnectOption {
	return connectFunc(func(c *config) { c.serverAssignsID = true })
}

// WithVersions sets the protocol versions to try, in order. The next one is
// tried only when the server refuses a version. The default is 5.0, then 3.1.1.
func WithVersions(v ...Version) ConnectOption {
	return connectFunc(func(c *config) { c.versions = append([]Version(nil), v...) })
}

// WithDowngradeOnClose also tries the next version when the server closes the
// connection instead of answering CONNECT, as some old servers do. A server that
// has sent a packet of 5.0 to this Conn did not do so for the version.
func WithDowngradeOnClose() ConnectOption {
	return connectFunc(func(c *config) { c.downgradeOnClose = true })
}

// WithKeepAlive sets the keep alive: a ping is sent when for this long, less a tenth
// and at most 5 s, nothing was sent or nothing was received. A dead link is found
// within keep alive and ping timeout. Whole seconds up to 65,535; negative means no
// pings. 0 means the default: 60 s, and 45 s for the ws and wss servers of the list,
// since proxies cut a WebSocket that is idle for 60 s. An MQTT 5 server may override
// it.
//
// The server may cut a link when for one and a half keep alives no packet ended
// (section 3.1.2.10), and many do in the middle of one: on a slow line it must be
// longer than the largest packet takes.
func WithKeepAlive(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.keepAlive, d) })
}

// WithPingTimeout sets how long an answer to a ping may take. The default is 10 s; 0
// keeps it. When no answer came the link ends with [ErrKeepAlive].
//
// On Linux the time counts from when the server's TCP has taken the PINGREQ. While that
// takes at least some of the bytes before the PINGREQ in each ping timeout, the line is
// slow and the link stays. What a proxy or tunnel took counts as taken by the server.
//
// Other systems do not say what was taken, nor do unix sockets and connections of
// [WithDialer] that show no socket. There the time counts from when the PINGREQ was
// written to the socket. The system's send buffer holds up to some megabytes: a line
// that takes longer than the ping timeout to send them looks dead.
func WithPingTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.pingTimeout, d) })
}

// WithConnectTimeout bounds one attempt to connect to one server, from name
// look-up to CONNACK. The default is 10 s.
//
// When the server's host has several addresses the attempt tries them, the families in
// turn (RFC 8305 section 4). The next address is tried 250 ms after the one before, or
// when that one failed; the first that accepts is used. From then on, in TLS, WebSocket
// and MQTT, an address has half of the time that is left, the last one all of it. When
// it is silent for that long or cuts the connection, the attempt goes on with the next
// address. So it does after a CONNACK with 0x88 or 0x89 (3.x: 3). Any other answer of the
// server ends the attempt, also an HTTP status or a certificate that fails.
//
// The next attempt begins behind the address that had the largest share of the time, or
// at the one that answered. The server name of TLS and the Host header are those of the
// URL.
func WithConnectTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.connectTimeout, d) })
}

// WithCloseTimeout bounds how long [Conn.Close] takes, 5 s by default. Pending
// publishes have all of it but the last quarter, 1 s at most, which is kept for
// the DISCONNECT and for the server to close the connection.
func WithCloseTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.closeTimeout, d) })
}

// WithSubscribeTimeout bounds how long Subscribe may wait for its answers while a
// link is up, 10 s by default: the time of all links together counts, that without a
// link does not. The time that a slow line takes for what was published before counts.
// A subscription that is asked for again ends the link when its answer takes so long.
func WithSubscribeTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.subscribeWait, d) })
}

// WithStableAfter sets how long a link must have been up for the backoff to
// start over, 10 s by default. Links that live shorter and end of the same protocol
// error of the server, three in a row, end the Conn with the *[ProtocolError]; see
// [WithEndOnFaultyMessage] for errors in a message.
func WithStableAfter(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.stableAfter, d) })
}

// WithAckTimeout ends a link on which a publish has waited for its
// acknowledgement for d, so that it is sent again on the next. Off by default. A
// publish that is still on its way when half of d is over has d from when the
// server's TCP has taken it, as far as that can be seen; see [WithPingTimeout].
func WithAckTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.ackTimeout, d) })
}

// WithAckOverdue sets after what time with the application an unacknowledged
// message is reported by an [AckOverdue] event, 10 s by default.
func WithAckOverdue(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.ackOverdue, d) })
}

// WithStuckAfter sets after what time without progress a subscription that
// holds more than its limit is ended with [ErrSlowConsumer], 30 s by default.
func WithStuckAfter(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.stuckAfter, d) })
}

// setDuration keeps the default for zero.
func setDuration(to *time.Duration, d time.Duration) {
	if d != 0 {
		*to = d
	}
}

// WithFirstConnect sets what Connect does about the first connection. The
// default is [FirstConnectFail].
func WithFirstConnect(f FirstConnect) ConnectOption {
	return connectFunc(func(c *config) { c.firstConnect = f })
}

// WithBackoff sets the delays between attempts. The default doubles from 1 s to
// 120 s with full jitter. The policy runs in a goroutine of its own, so that it may
// end the Conn; until then the next attempt waits for it. Time that the machine sleeps
// counts towards a delay; after a sleep of 10 s or more the next attempt is made at
// once and the policy begins anew with attempt 1.
func WithBackoff(p backoff.Policy) ConnectOption {
	return connectFunc(func(c *config) {
		if p != nil {
			c.backoff = p
		}
	})
}

// WithErrorPolicy sets a function that decides about each failed attempt and
// each lost link. By default a first round that fails ends the Conn (see
// [WithFirstConnect]), later a takeover does, and a round in which every server
// refused the version; everything else is tried again. The next attempt waits for the
// function, which runs in a goroutine of its own: it may end the Conn, which then does
// not wait for it.
//
// The error of a round joins those of its servers and their addresses: errors.Is
// then says that at least one of them failed so.
func WithErrorPolicy(f func(error) Decision) ConnectOption {
	return connectFunc(func(c *config) { c.onError = f })
}

// WithReconnectAfterTakeover reconnects after another client took the session over,
// instead of ending with [ErrTakenOver]. Two clients that do so fight. On 3.x a
// takeover cannot be told from a lost network, so that a Conn always reconnects
// there, and two clients with one client identifier fight.
func WithReconnectAfterTakeover() ConnectOption {
	return connectFunc(func(c *config) { c.reconnectAfterTakeover = true })
}

// WithEndOnFaultyMessage ends the Conn when three links in a row, each up for less than
// [WithStableAfter], have ended of the same message that breaks the protocol: one
// with a wildcard or malformed UTF-8 in its topic, or properties that are not valid.
// Without the option the message is acknowledged and dropped from then on, with a
// [FaultyMessage] event, and the Conn goes on.
func WithEndOnFaultyMessage() ConnectOption {
	return connectFunc(func(c *config) { c.endOnFaulty = true })
}

// WithQueue sets the limits of what is accepted and not yet resolved, and what
// happens at the limit. 0 keeps a default (65,536 messages, 64 MiB); negative
// means no limit.
func WithQueue(messages, bytes int, policy QueuePolicy) ConnectOption {
	return connectFunc(func(c *config) {
		setLimit(&c.queue.messages, messages)
		setLimit(&c.queue.bytes, bytes)
		if policy > QueueDropNewest {
			c.errs = append(c.errs, invalid("queue policy", "", "unknown"))
		}
		c.queue.policy = policy
	})
}

// WithQueuedQoS0 queues QoS 0 messages while there is no link, instead of
// failing them with [ErrNotConnected].
func WithQueuedQoS0() ConnectOption { return connectFunc(func(c *config) { c.queue.keepQoS0 = true }) }

// WithSessionLost sets what becomes of QoS 1 and QoS 2 messages that were in
// flight when the server lost the session.
func WithSessionLost(qos1, qos2 LostPolicy) ConnectOption {
	return connectFunc(func(c *config) { c.queue.lost1, c.queue.lost2 = qos1, qos2 })
}

// WithMaxInflight sets how many QoS 1 and 2 publishes may be in flight, 1 to
// 65,535; never above the server's Receive Maximum (section 3.2.2.3.3). The default
// is 1,024 on 5.0 and 20 on 3.x, where a server cannot say what it takes: Mosquitto
// takes 20 by default, and beyond that cuts the link, or acknowledges a message and
// drops it. Set more there only for a server that is known to take it.
func WithMaxInflight(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 1 || n > 65535 {
			c.errs = append(c.errs, invalid("inflight window", "", "must be 1 to 65,535"))
			return
		}
		c.queue.inflight3, c.queue.inflight5 = n, n
	})
}

// WithReceiveMaximum sets how many QoS 1 and 2 messages the server may send
// without acknowledgement on MQTT 5, 1 to 65,535. Without it 1,024 are announced.
//
// A server that sends more is answered by DISCONNECT 0x93 and the link ends (section
// 3.3.4). Mosquitto 2.0.11 sends more with a long backlog or many retained messages. A
// [ReceiveMaximumExceeded] event reports it once for each server.
//
// Without this option the next links to that server announce 65,535, which no server can
// exceed. A value that was set stays. Then, with [WithSession], the messages that were too
// many come again on the next link, after the backoff; without it the server forgets them,
// or begins anew. The Conn goes on while each link completes a step of an exchange, and
// ends with the *[ProtocolError] after three in a row that complete none.
func WithReceiveMaximum(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 1 || n > 65535 {
			c.errs = append(c.errs, invalid("receive maximum", "", "must be 1 to 65,535"))
			return
		}
		c.receiveMax, c.receiveMaxSet = n, true
	})
}

// WithMaxPacketSize sets the largest inbound packet in bytes, header included,
// up to 268,435,460. The default is 64 MiB. It is announced on MQTT 5; on 3.x
// a larger message is acknowledged and dropped, with an event.
func WithMaxPacketSize(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 16 || n > maxPacket {
			c.errs = append(c.errs, invalid("maximum packet size", "", "must be 16 to 268,435,460"))
			return
		}
		c.inboundLimit = n
	})
}

// Will is the message that the server publishes when the connection ends
// without a DISCONNECT (section 3.1.2.5).
type Will struct {
	Message
	// Delay is how long the server waits before it publishes the will, MQTT 5
	// only, in whole seconds, rounded up, and at most 4,294,967,295 s, 136 years
	// (section 3.1.3.2.2).
	Delay time.Duration
}

// WithWill sets the will.
func WithWill(w Will) ConnectOption {
	w.Payload = slices.Clone(w.Payload)
	return connectFunc(func(c *config) { c.will = &w })
}

// WithConnectUserProperties adds user properties to CONNECT, MQTT 5 only.
func WithConnectUserProperties(user ...UserProperty) ConnectOption {
	return connectFunc(func(c *config) { c.connectProps.User = append(c.connectProps.User, user...) })
}

// WithRequestResponseInformation asks an MQTT 5 server for Response Information
// (section 3.1.2.11.6). The answer is in Connack.Props.ResponseInfo of [Connected].
func WithRequestResponseInformation() ConnectOption {
	return connectFunc(func(c *config) {
		c.connectProps.RequestResponseInfo = 1
		c.connectProps.Present = c.connectProps.Present.With(codec.PropRequestResponseInformation)
	})
}

// WithLogger sets the logger. Every record carries the client identifier and
// the link's number; no secret and no payload is logged.
//
// The Conn waits until the logger's handler has returned, which runs in a goroutine of
// its own for each record; so records are in order, and a slow handler slows down what is
// logged: attempts, links, failures of the store, no message. A Conn that closes waits
// 250 ms for each record, so that the handler may itself end the Conn. The handler gets
// every record, of which the last is "mqtt: closed".
func WithLogger(l *slog.Logger) ConnectOption {
	return connectFunc(func(c *config) {
		if l != nil {
			c.logger = l
		}
	})
}

// WithPacketHook sets a function that sees every packet as the goroutines of
// the link send and receive it: one that is sent just before it is written, so
// that no answer to it comes first.
//
// It must not block, and it must not end the Conn but in a goroutine of its own: the end
// of the link waits for it. When it does all the same, Close, Disconnect and Drain return
// when their time is up with a *[CallbackError], Abort after 250 ms, and the Conn ends
// when the hook returns.
func WithPacketHook(f func(PacketInfo)) ConnectOption {
	return connectFunc(func(c *config) { c.hook = f })
}

// WithPacketPayload shows the packet hook the payload of every PUBLISH. It is the
// buffer that is written or was read: the hook must neither change nor keep it.
// Passwords and the will are never shown.
func WithPacketPayload() ConnectOption { return connectFunc(func(c *config) { c.hookPayload = true }) }
