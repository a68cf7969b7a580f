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

// FirstConnect says how Connect waits for the first connection.
type FirstConnect uint8

const (
	// FirstConnectFail tries each server once. When none accepts the connection,
	// Connect returns the error and the Conn ends.
	FirstConnectFail FirstConnect = iota
	// FirstConnectRetry tries until a server accepts the connection or ctx ends.
	FirstConnectRetry
	// FirstConnectBackground returns at once; the Conn connects meanwhile.
	FirstConnectBackground
)

// String names the value.
func (f FirstConnect) String() string {
	return valueName("first connect", uint8(f), "fail", "retry", "background")
}

// Decision is the answer of a policy function about a round of attempts that failed, or a
// link that ended.
type Decision uint8

const (
	// DecideDefault leaves the decision to the library, see [WithErrorPolicy].
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

// WithServers adds servers to try, in order, after the one given to Connect. They are
// one cluster: the session of the client is expected to be the same at each of them. A
// URL that is not valid is an [InvalidError].
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

// WithClientID sets the client identifier (section 3.1.3.1). Without it one is generated,
// of 23 letters and digits. One that is not UTF-8 is an [InvalidError].
func WithClientID(id string) ConnectOption { return connectFunc(func(c *config) { c.clientID = id }) }

// WithServerAssignedClientID sends an empty client identifier: an MQTT 5 server assigns
// one, which the Conn then keeps until it ends (section 3.1.3.1). It excludes
// [WithClientID], and [WithSession] unless MQTT 5 is the only version.
func WithServerAssignedClientID() ConnectOption {
	return connectFunc(func(c *config) { c.serverAssignsID = true })
}

// WithVersions sets the protocol versions to try, in order, one at least. The next one is
// tried only when the server refuses a version. The default is 5.0, then 3.1.1.
func WithVersions(v ...Version) ConnectOption {
	return connectFunc(func(c *config) { c.versions = append([]Version(nil), v...) })
}

// WithDowngradeOnClose also tries the next version when the server closes the connection
// instead of answering CONNECT, as some old servers do. A server that has once sent a
// packet of MQTT 5.0 to this Conn speaks it: then a closed connection is no reason to try
// another version.
func WithDowngradeOnClose() ConnectOption {
	return connectFunc(func(c *config) { c.downgradeOnClose = true })
}

// WithKeepAlive sets the keep alive (section 3.1.2.10), at most 65,535 s, which CONNECT
// carries in whole seconds, rounded up. A ping is sent when nothing was sent, or nothing
// was received, for this long less a tenth, 5 s at most. So a dead link is found within
// the keep alive and the ping timeout together. An MQTT 5 server may override the value.
//
// 0 keeps the default: 60 s, and 45 s for the ws and wss servers of the list, since
// proxies cut a WebSocket that is idle for 60 s. A negative value means no pings. More
// than 65,535 s is an [InvalidError].
//
// The server may cut a link on which no packet ended for one and a half keep alives, and
// many servers do so in the middle of a packet. On a slow line the keep alive must be
// longer than the largest packet takes.
func WithKeepAlive(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.keepAlive, d) })
}

// WithPingTimeout sets how long the answer to a ping may take, 10 s by default. When it
// takes longer the link ends with [ErrKeepAlive]. 0 keeps the default, a negative value is
// an [InvalidError].
//
// On Linux the time counts from when the server's TCP has taken the PINGREQ. While that
// takes at least some of the bytes before the PINGREQ in each ping timeout, the line is
// slow and the link stays. Bytes that a proxy or a tunnel took count as taken by the
// server.
//
// Other systems do not say which bytes were taken, nor do unix sockets and connections of
// [WithDialer] that show no socket. There the time counts from when the PINGREQ was
// written to the socket. The system's send buffer holds up to some megabytes: a line
// that takes longer than the ping timeout to send them looks dead.
func WithPingTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.pingTimeout, d) })
}

// WithConnectTimeout bounds one attempt to connect to one server, from name look-up to
// CONNACK, 10 s by default. 0 keeps the default, a negative value is an [InvalidError].
//
// When the server's host has several addresses the attempt tries them, IPv4 and IPv6 in
// turn (RFC 8305 section 4). The next address is tried 250 ms after the one before, or
// when that one failed; the first that accepts is used. From then on, in TLS, WebSocket
// and MQTT, an address has half of the time that is left, the last one all of it. When
// the server at an address is silent for that long or cuts the connection, the attempt
// goes on with the next address, and so it does after a CONNACK with 0x88 or 0x89 (3.x:
// 3). Any other answer of the server ends the attempt, also an HTTP status or a
// certificate that fails.
//
// The next attempt begins behind the address that had the largest share of the time, or
// at the one that answered. The server name of TLS and the Host header are those of the
// URL.
func WithConnectTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.connectTimeout, d) })
}

// WithCloseTimeout bounds how long [Conn.Close] takes, 5 s by default. Pending publishes
// have all of it but the last quarter, 1 s at most, which is kept for the DISCONNECT and
// for the server to close the connection. 0 keeps the default, a negative value is an
// [InvalidError].
func WithCloseTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.closeTimeout, d) })
}

// WithSubscribeTimeout bounds how long Subscribe waits for the answers of the server,
// 10 s by default. The time of all links counts together, time without a link does not.
// Messages published before the SUBSCRIBE are sent before it, and on a slow line the time
// for that counts too. When the SUBACK for a subscription that is made again on a new
// link takes this long, the link ends. 0 keeps the default, a negative value is an
// [InvalidError].
func WithSubscribeTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.subscribeWait, d) })
}

// WithStableAfter sets how long a link must have been up for the backoff to start over,
// 10 s by default. Three links in a row that were up for less, and ended because of the
// same protocol error of the server, end the Conn with the *[ProtocolError]; for errors in
// a message see [WithEndOnFaultyMessage]. 0 keeps the default, a negative value is an
// [InvalidError].
func WithStableAfter(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.stableAfter, d) })
}

// WithAckTimeout ends a link on which a publish has waited for its acknowledgement for d,
// so that it is sent again on the next one. When the publish has still to reach the
// server after half of d, the time counts from when the server's TCP has taken it, as far
// as the system says so; see [WithPingTimeout]. The default, 0, is no limit; a negative
// value is an [InvalidError].
func WithAckTimeout(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.ackTimeout, d) })
}

// WithAckOverdue sets how long the application may have a message without acknowledging
// it before an [AckOverdue] event reports it, 10 s by default. 0 keeps the default, a
// negative value is an [InvalidError].
func WithAckOverdue(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.ackOverdue, d) })
}

// WithStuckAfter sets how long a subscription that holds more than its limit (see
// [WithPendingLimit]) may make no progress before it ends with [ErrSlowConsumer], 30 s by
// default; it is looked at 16 times in that time, so that it ends at most a sixteenth later. 0 keeps the default, a negative value is an [InvalidError].
func WithStuckAfter(d time.Duration) ConnectOption {
	return connectFunc(func(c *config) { setDuration(&c.stuckAfter, d) })
}

// setDuration sets *to to d, and keeps the default when d is 0.
func setDuration(to *time.Duration, d time.Duration) {
	if d != 0 {
		*to = d
	}
}

// WithFirstConnect sets when Connect returns, and whether the Conn ends when the first
// connection fails. The default is [FirstConnectFail].
func WithFirstConnect(f FirstConnect) ConnectOption {
	return connectFunc(func(c *config) { c.firstConnect = f })
}

// WithBackoff sets the delays between attempts. The default doubles them from 1 s to 120 s
// with full jitter; nil keeps it. A policy that gives up ends the Conn with the error of
// the attempt. The policy runs in a goroutine of its own, and the next attempt waits until
// it returns; so it may itself end the Conn. Time that the machine sleeps counts towards a
// delay. After a sleep of 10 s or more the next attempt is made at once, and the policy
// begins anew with attempt 1.
func WithBackoff(p backoff.Policy) ConnectOption {
	return connectFunc(func(c *config) {
		if p != nil {
			c.backoff = p
		}
	})
}

// WithErrorPolicy sets a function that decides whether the Conn goes on. f is called with
// the error of each round in which no server accepted a connection, and of each link that
// ended. The next attempt waits until f returns.
//
// By default, and when f returns [DecideDefault], these errors end the Conn: that of the
// first round (see [WithFirstConnect]); [ErrTakenOver] (see
// [WithReconnectAfterTakeover]); that of a later round in which every server refused the
// protocol version; and that of the third link in a row with the same protocol error (see
// [WithStableAfter]). After any other error the Conn tries again.
//
// f runs in a goroutine of its own, so that it may itself end the Conn. The Conn then
// waits for f for 250 ms at most.
//
// The error of a round joins those of all servers and addresses that were tried: errors.Is
// reports whether at least one of them failed for that reason.
func WithErrorPolicy(f func(error) Decision) ConnectOption {
	return connectFunc(func(c *config) { c.onError = f })
}

// WithReconnectAfterTakeover connects again after another client took the session over,
// instead of ending the Conn with [ErrTakenOver]. Two clients with this option and one
// client identifier take the session from each other without end. On 3.x the server does
// not report a takeover: the Conn always connects again there.
func WithReconnectAfterTakeover() ConnectOption {
	return connectFunc(func(c *config) { c.reconnectAfterTakeover = true })
}

// WithEndOnFaultyMessage ends the Conn when three links in a row, each up for less than
// [WithStableAfter], have ended because of the same message that breaks the protocol: a
// message with a wildcard or malformed UTF-8 in its topic, or with properties that are not
// valid. Without the option the message is acknowledged and dropped from then on, with a
// [FaultyMessage] event, and the Conn goes on.
func WithEndOnFaultyMessage() ConnectOption {
	return connectFunc(func(c *config) { c.endOnFaulty = true })
}

// WithQueue limits the messages that are accepted and not yet resolved, and sets what
// Publish does at a limit. messages is their number, 65,536 by default; bytes is the sum
// of their topics, payloads and encoded properties, 64 MiB by default. With [WithStore] a
// QoS 1 or 2 message counts instead as many bytes as its record in the store has: its key
// and a header are added. 0 keeps a default, a negative value means no limit. A policy
// that does not exist is an [InvalidError].
//
// A message that is larger than bytes is refused with a [PacketTooLargeError].
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

// WithSessionLost sets what becomes of QoS 1 and QoS 2 messages that were in flight when
// the server lost the session. The default of both is [LostDefault].
func WithSessionLost(qos1, qos2 LostPolicy) ConnectOption {
	return connectFunc(func(c *config) { c.queue.lost1, c.queue.lost2 = qos1, qos2 })
}

// WithMaxInflight sets how many QoS 1 and 2 publishes may be in flight, 1 to 65,535; any
// other value is an [InvalidError]. The server's Receive Maximum limits the number further
// (section 3.2.2.3.3). The default is 1,024 on 5.0 and 20 on 3.x, where a server cannot
// announce a limit: Mosquitto takes 20 by default, and beyond that cuts the link, or
// acknowledges a message and drops it. Set more there only for a server that is known to
// take it.
func WithMaxInflight(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 1 || n > 65535 {
			c.errs = append(c.errs, invalid("inflight window", "", "must be 1 to 65,535"))
			return
		}
		c.queue.inflight3, c.queue.inflight5 = n, n
	})
}

// WithReceiveMaximum sets how many QoS 1 and 2 messages the server may send without
// acknowledgement on MQTT 5 (section 3.1.2.11.3), 1 to 65,535; any other value is an
// [InvalidError]. Without the option CONNECT announces 1,024.
//
// When a server sends more, the link ends with DISCONNECT 0x93 (section 3.3.4), and a
// [ReceiveMaximumExceeded] event reports it once for each server. Mosquitto 2.0.11 sends
// more with a long backlog or many retained messages.
//
// Without this option the next links to that server announce 65,535, which no server can
// exceed. With it they announce the same value again. Then, with [WithSession], the
// server sends the messages beyond the limit again on the next link, after the backoff;
// without a session it forgets them, or begins anew. The Conn goes on while each link
// completes a step of an exchange, and ends with the *[ProtocolError] after three links in
// a row that complete none.
func WithReceiveMaximum(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 1 || n > 65535 {
			c.errs = append(c.errs, invalid("receive maximum", "", "must be 1 to 65,535"))
			return
		}
		c.receiveMax, c.receiveMaxSet = n, true
	})
}

// WithMaxPacketSize sets the size of the largest packet that the server may send, header
// included (section 3.1.2.11.4), 16 to 268,435,460 bytes; any other value is an
// [InvalidError]. The default is 64 MiB. CONNECT announces it on MQTT 5; on 3.x a larger
// message is acknowledged and dropped, with a [MessageDropped] event.
func WithMaxPacketSize(n int) ConnectOption {
	return connectFunc(func(c *config) {
		if n < 16 || n > maxPacket {
			c.errs = append(c.errs, invalid("maximum packet size", "", "must be 16 to 268,435,460"))
			return
		}
		c.inboundLimit = n
	})
}

// WithMaxPropertySize sets how many bytes of properties a message may come with, 1 MiB by
// default; MQTT 5 only. A message with more is dropped, with a [MessageDropped] event whose
// error is a *[PropertiesTooLargeError]; at QoS 1 and 2 the server is told by the reason code
// 0x97, Quota exceeded, in PUBACK or PUBREC (section 3.4.2.1). The memory that properties
// take is up to eight times their size. 0 keeps the default, a negative value is an
// [InvalidError].
func WithMaxPropertySize(n int) ConnectOption {
	return connectFunc(func(c *config) {
		switch {
		case n < 0:
			c.errs = append(c.errs, invalid("maximum property size", "", "must not be negative"))
		case n > 0:
			c.propertyLimit = n
		}
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

// WithWill sets the will. A topic, payload, delay or property that is not valid is an
// [InvalidError]; a delay or properties fail an attempt on 3.x with a [VersionError].
func WithWill(w Will) ConnectOption {
	w.Payload = slices.Clone(w.Payload)
	return connectFunc(func(c *config) { c.will = &w })
}

// WithConnectUserProperties adds user properties to CONNECT (section 3.1.2.11.8), MQTT 5
// only. On 3.x they are left out, with a [Downgraded] event. Text that is not UTF-8, or
// longer than 65,535 bytes, is an [InvalidError].
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

// WithLogger sets the logger; nil keeps the default, which logs nothing. Every record has
// the client identifier; none has a secret or a payload.
//
// The handler of the logger runs in a goroutine of its own for each record, and the Conn
// waits until it has returned. So records are in order, and a slow handler slows down the
// things that are logged: attempts, links, failures of the store, no message. A Conn that
// closes waits 250 ms for each record, so that the handler may itself end the Conn. The
// handler gets every record, the last of which is "mqtt: closed".
func WithLogger(l *slog.Logger) ConnectOption {
	return connectFunc(func(c *config) {
		if l != nil {
			c.logger = l
		}
	})
}

// WithPacketHook sets a function that is called with every packet, in the goroutines of
// the link: with a packet that is received before it is handled, and with a packet that is
// sent just before it is written, so that the hook never sees the answer first.
//
// The hook must not block, and must not end the Conn except in a goroutine of its own: the
// end of the link waits for the hook. If the hook does so all the same, Close, Disconnect
// and Drain return a *[CallbackError] when their time is up, Abort returns after 250 ms,
// and the Conn ends when the hook returns.
func WithPacketHook(f func(PacketInfo)) ConnectOption {
	return connectFunc(func(c *config) { c.hook = f })
}

// WithPacketPayload shows the packet hook the payload of every PUBLISH. It is the
// buffer that is written or was read: the hook must neither change nor keep it.
// Passwords and the will are never shown.
func WithPacketPayload() ConnectOption { return connectFunc(func(c *config) { c.hookPayload = true }) }
