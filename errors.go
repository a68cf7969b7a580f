package mqtt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// States and refusals, to be tested with errors.Is.
var (
	// ErrPending is what [Future.Err] returns until the Future resolves.
	ErrPending = errors.New("mqtt: pending")
	// ErrClosed says that the Conn has ended, or is about to.
	ErrClosed = errors.New("mqtt: connection closed")
	// ErrNotConnected says that there was no link to the server at that moment.
	ErrNotConnected = errors.New("mqtt: not connected")
	// ErrLinkLost says that the link ended before the exchange did.
	ErrLinkLost = errors.New("mqtt: link lost")
	// ErrQueueFull says that the outbound queue is at its limit; see [WithQueue].
	ErrQueueFull = errors.New("mqtt: outbound queue full")
	// ErrDropped says that the queue's policy dropped the message before it was sent.
	ErrDropped = errors.New("mqtt: dropped from the outbound queue")
	// ErrCanceled says that [Future.Cancel] took the message back before it was sent.
	ErrCanceled = errors.New("mqtt: publish canceled")
	// ErrExpired says that the message expired before it was sent.
	ErrExpired = errors.New("mqtt: message expired before it was sent")
	// ErrSessionLost says that the server lost the session that the exchange belonged to.
	ErrSessionLost = errors.New("mqtt: session lost at the server")
	// ErrSetAside says that the link ended each time the packet was sent alone, so that
	// the packet seems to be the reason and is not sent again. The Future of such a
	// message fails with it, see [PublishSetAside], and every [SetAsideError] of a filter
	// is one.
	ErrSetAside = errors.New("mqtt: message set aside, the link died each time it was sent")
	// ErrKeyInUse says that a message with that key is still in flight.
	ErrKeyInUse = errors.New("mqtt: a message with this key is in flight")
	// ErrWrongAck says that the server answered a packet by one that does not fit: an
	// acknowledgement of another kind, or a SUBACK or UNSUBACK with another number of
	// codes. The [ProtocolError] that ends the link wraps it (section 4.8 of 3.1.1, 4.13
	// of 5.0), and the packet is sent again on the next link. A PUBLISH, SUBSCRIBE or
	// UNSUBSCRIBE that has ended three links so is given up with this error, and the
	// Conn goes on.
	//
	// A QoS 2 publish that a 3.x server answers by PUBACK fails with it at once: the
	// server took the message, and has no QoS 2. RabbitMQ is such a server; use QoS 1
	// there.
	ErrWrongAck = errors.New("mqtt: acknowledged by the wrong kind of packet")

	// ErrStale says that an acknowledgement is no longer owed.
	ErrStale = errors.New("mqtt: acknowledgement no longer owed")
	// ErrAcked says that the message was acknowledged before. It is an [ErrStale] too.
	ErrAcked = fmt.Errorf("%w: acknowledged before", ErrStale)
	// ErrNotReceived says that Ack was called on a message that was not received.
	ErrNotReceived = errors.New("mqtt: not a received message")

	// ErrUnsubscribed is the error of a subscription that was unsubscribed.
	ErrUnsubscribed = errors.New("mqtt: unsubscribed")
	// ErrSlowConsumer is the error of a subscription that ended because the application
	// did not take its messages.
	ErrSlowConsumer = errors.New("mqtt: slow consumer")
	// ErrHandlerExited says that a message was given up because its handler or codec
	// was called with it twice and ended its goroutine both times (runtime.Goexit, as
	// t.FailNow does).
	ErrHandlerExited = errors.New("mqtt: the handler ended its goroutine instead of returning")
	// ErrConsumerBound says that the subscription is consumed in another form.
	ErrConsumerBound = errors.New("mqtt: subscription is consumed in another form")
	// ErrSubscriptionConflict says that another subscription of the Conn has
	// the same filter with other options.
	ErrSubscriptionConflict = errors.New("mqtt: filter subscribed with other options")

	// ErrKeepAlive says that the server did not answer a ping in time; see
	// [WithKeepAlive] and [WithPingTimeout] for slow lines.
	ErrKeepAlive = errors.New("mqtt: no answer from the server within the ping timeout; WithKeepAlive and WithPingTimeout set how long a slow line may take")
	// ErrTakenOver says that another client connected with the same client identifier
	// (reason code 0x8E, section 3.1.4). Only MQTT 5 can say so: on 3.x the server just
	// closes the connection, which looks like any other loss of the network.
	ErrTakenOver = errors.New("mqtt: session taken over by another client with the same client identifier")
	// ErrInvalid matches every [InvalidError] in errors.Is.
	ErrInvalid = errors.New("mqtt: invalid")
	// ErrPacketTooLarge matches every [PacketTooLargeError] in errors.Is, and a
	// [ReasonError] with code 0x95.
	ErrPacketTooLarge = errors.New("mqtt: packet too large")
	// ErrNotSupported says that the server or the protocol version in use has no such feature.
	ErrNotSupported = errors.New("mqtt: not supported")

	// ErrBadCredentials says that the server refused the user name or password.
	ErrBadCredentials = errors.New("mqtt: bad user name or password")
	// ErrNotAuthorized says that the server does not permit the connection, the publish
	// or the subscription.
	ErrNotAuthorized = errors.New("mqtt: not authorized")
	// ErrBanned says that the server has banned the client.
	ErrBanned = errors.New("mqtt: banned")
	// ErrClientIDRejected says that the server refused the client identifier.
	ErrClientIDRejected = errors.New("mqtt: client identifier not valid")
	// ErrUnsupportedVersion says that the server does not speak the protocol version.
	ErrUnsupportedVersion = errors.New("mqtt: unsupported protocol version")
)

// ReasonError is a refusal by the server: a reason code of 0x80 or more (section
// 2.4), or a 3.x return code other than 0.
type ReasonError struct {
	// Packet is the packet that carried the code.
	Packet PacketType
	// Version is the protocol version of the link.
	Version Version
	// Code is the reason code; on a 3.x CONNACK the return code 1 to 5. On 3.x a
	// SUBACK refuses by 0x80, but some brokers send codes of MQTT 5 or of their
	// own, in CONNACK too: such a code is kept as it came.
	Code ReasonCode
	// Reason is the server's Reason String, empty when it gave none; at most 2 KiB of it.
	Reason string
	// User holds the server's user properties, at most about 4 KiB of them.
	User []UserProperty
	// UserCut says that the server sent more user properties.
	UserCut bool
	// ServerReference names another server to use (section 4.11), if it does so in at most
	// 2 KiB. The library does not connect to it by itself.
	ServerReference string
}

// Error names packet, code and the server's text.
func (e *ReasonError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mqtt: %s: %s (0x%02X)", e.Packet, e.codeName(), byte(e.Code))
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %q", e.Reason)
	}
	if e.ServerReference != "" {
		fmt.Fprintf(&b, ", use server %q", e.ServerReference)
	}
	return b.String()
}

func (e *ReasonError) codeName() string {
	if e.Version != V5 {
		return e.codeName3()
	}
	return e.Code.String()
}

// codeName3 names a code of 3.x. A code that 3.x does not have is often one of 5.0, sent
// by a broker that speaks both versions: then the text has its name in 5.0 as a hint.
func (e *ReasonError) codeName3() string {
	name := "failure"
	if e.Packet == codec.CONNACK {
		name = "Connection refused"
		if !e.Code.IsError() {
			return codec.ConnectReturnCodeString(byte(e.Code))
		}
	}
	if hint := e.Code.String(); e.Code > codec.UnspecifiedError && !strings.HasPrefix(hint, "reason code") {
		name += ", in MQTT 5.0 " + hint
	}
	return name
}

// Is matches the sentinels that stand for reason codes.
func (e *ReasonError) Is(target error) bool {
	if e.Version != V5 && e.Packet == codec.CONNACK && !e.Code.IsError() {
		return target != nil && target == returnCodeSentinel(byte(e.Code))
	}
	return target != nil && target == reasonSentinel(e.Code)
}

func returnCodeSentinel(code byte) error {
	switch code {
	case 1:
		return ErrUnsupportedVersion
	case 2:
		return ErrClientIDRejected
	case 4:
		return ErrBadCredentials
	case 5:
		return ErrNotAuthorized
	}
	return nil
}

func reasonSentinel(code codec.ReasonCode) error {
	switch code {
	case codec.UnsupportedProtocolVersion:
		return ErrUnsupportedVersion
	case codec.ClientIdentifierNotValid:
		return ErrClientIDRejected
	case codec.BadUserNameOrPassword:
		return ErrBadCredentials
	case codec.NotAuthorized:
		return ErrNotAuthorized
	case codec.Banned:
		return ErrBanned
	case codec.SessionTakenOver:
		return ErrTakenOver
	case codec.PacketTooLarge:
		return ErrPacketTooLarge
	}
	return nil
}

// ProtocolError says that the server broke the protocol, so that the library ended the
// link, on MQTT 5 by a DISCONNECT with Code (section 4.13).
type ProtocolError struct {
	Code   ReasonCode // of the DISCONNECT
	Detail string     // what was wrong, and where
	Err    error      // the codec's error if the bytes were malformed, [ErrWrongAck], or nil
}

// Error says what the server did wrong.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("mqtt: protocol error by the server (0x%02X): %s", byte(e.Code), e.Detail)
}

// Unwrap returns Err.
func (e *ProtocolError) Unwrap() error { return e.Err }

// InvalidError says that an argument or an option is not valid. It is returned before
// any I/O.
type InvalidError struct {
	What    string // the kind of argument: "topic", "filter", "QoS", "option", ...
	Value   string // the value, shortened; empty when it is secret
	Problem string // what is wrong with it, and what would be right
}

// Error names the argument and the problem.
func (e *InvalidError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("mqtt: invalid %s: %s", e.What, e.Problem)
	}
	return fmt.Sprintf("mqtt: invalid %s %q: %s", e.What, e.Value, e.Problem)
}

// Is makes every InvalidError an [ErrInvalid].
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(what, value, problem string) *InvalidError {
	if len(value) > 80 {
		value = value[:80] + "..."
	}
	return &InvalidError{What: what, Value: value, Problem: problem}
}

// PacketTooLargeError says that a packet is larger than a limit: the server's Maximum
// Packet Size, that of [WithMaxPacketSize], or the bytes of [WithQueue].
type PacketTooLargeError struct {
	// Size is that of the whole packet, or what a message counts for in the queue; Max
	// is the limit. Both are in bytes.
	Size, Max int
}

// Error gives both sizes.
func (e *PacketTooLargeError) Error() string {
	return fmt.Sprintf("mqtt: packet of %d bytes is larger than the limit of %d", e.Size, e.Max)
}

// Is makes every PacketTooLargeError an [ErrPacketTooLarge].
func (e *PacketTooLargeError) Is(target error) bool { return target == ErrPacketTooLarge }

// PropertiesTooLargeError says that a message came with more properties than
// [WithMaxPropertySize] allows. It is in a [MessageDropped].
type PropertiesTooLargeError struct {
	// Size is that of the properties on the wire, and Max the limit, in bytes.
	Size, Max int
}

// Error gives both sizes and names the option.
func (e *PropertiesTooLargeError) Error() string {
	return fmt.Sprintf("mqtt: message with %d bytes of properties, more than the limit of %d (WithMaxPropertySize)", e.Size, e.Max)
}

// VersionError says that the protocol version of the link, or the server, lacks a feature.
type VersionError struct {
	// Feature names the feature that the call needs.
	Feature string
	// Version is that of the link.
	Version Version
}

// Error names the feature and the version.
func (e *VersionError) Error() string {
	return fmt.Sprintf("mqtt: %s is not available on this MQTT %s connection", e.Feature, e.Version)
}

// Is makes every VersionError an [ErrNotSupported].
func (e *VersionError) Is(target error) bool { return target == ErrNotSupported }

// PublishError is the error of a Future that has failed. It wraps the reason.
type PublishError struct {
	// Topic is where the message was to go; empty for QoS 0 messages that share a Future.
	Topic string
	// MayHaveArrived says that the message, or a part of it, was handed to the
	// network, so that the server may have it. When false the server does not have it:
	// the message was not sent, or the server refused it, with a *[ReasonError] of PUBACK
	// or PUBREC. It is true for a refused message that an earlier link had sent too.
	MayHaveArrived bool
	// Kept says that the session store has the message, or may have it since a commit
	// does not return or its result is not known: a Conn made later with the same store
	// and client identifier sends it. When false no Conn sends it later.
	Kept bool
	Err  error
}

// Error names the topic, the reason and whether the server may have the message.
func (e *PublishError) Error() string {
	where := e.where()
	if e.Kept {
		where += "; kept in the session store"
	}
	if e.Topic == "" {
		return fmt.Sprintf("mqtt: publish: %v (%s)", trimPrefix(e.Err), where)
	}
	return fmt.Sprintf("mqtt: publish to %q: %v (%s)", e.Topic, trimPrefix(e.Err), where)
}

// where says whether the server may have the message.
func (e *PublishError) where() string {
	if e.MayHaveArrived {
		return "the server may have it"
	}
	if r, ok := e.Err.(*ReasonError); ok && (r.Packet == codec.PUBACK || r.Packet == codec.PUBREC) {
		return "refused by the server"
	}
	return "not sent"
}

// Unwrap returns the reason.
func (e *PublishError) Unwrap() error { return e.Err }

// StoreError says that the session store failed.
type StoreError struct {
	// Op is the operation that failed: open, load, read, write or close.
	Op  string
	Err error
}

// Error names the operation and the reason.
func (e *StoreError) Error() string { return fmt.Sprintf("mqtt: session store: %s: %v", e.Op, e.Err) }

// Unwrap returns the store's error.
func (e *StoreError) Unwrap() error { return e.Err }

// ConnectError is the error of an attempt to connect.
type ConnectError struct {
	Server  string // the server's URL without user information
	Address string // the address that was tried, host:port; empty when the server's name was not looked up
	Step    string // config, credentials, resolve, dial, proxy, tls, websocket, CONNECT, CONNACK
	Version Version
	Err     error
}

// Error names server, address, step and reason.
func (e *ConnectError) Error() string {
	where, reason := e.Server, e.Err
	if e.Address != "" {
		where += " at " + e.Address
	}
	if s, ok := reason.(*transport.StepError); ok && s.Proxy == "" {
		reason = s.Err // the rest of its text stands here already
	}
	return fmt.Sprintf("mqtt: connect to %s: %s: %v", where, e.Step, trimPrefix(reason))
}

// Unwrap returns the reason, for example a *[ReasonError], the close frame of a
// WebSocket as a *[transport.CloseError], or a net, x509 or TLS error.
func (e *ConnectError) Unwrap() error { return e.Err }

// SubscribeResult is the result for one filter of a SUBSCRIBE or UNSUBSCRIBE.
type SubscribeResult struct {
	Filter  string     // as the caller gave it
	Granted QoS        // the QoS the server granted, when Err is nil
	Code    ReasonCode // the code of the SUBACK or UNSUBACK
	Err     error      // nil, or why this filter has no subscription
}

// SubscribeError says that the server refused at least one filter: by a reason code, a
// *[ReasonError], or by cutting the link each time, a *[SetAsideError].
type SubscribeError struct {
	Results []SubscribeResult // one for each filter, in the order given
}

// Error lists the refused filters.
func (e *SubscribeError) Error() string {
	var b strings.Builder
	b.WriteString("mqtt: subscribe:")
	for _, r := range e.Results {
		if r.Err != nil {
			fmt.Fprintf(&b, " %q: %v;", r.Filter, trimPrefix(r.Err))
		}
	}
	return strings.TrimSuffix(b.String(), ";")
}

// Unwrap returns the errors of the refused filters.
func (e *SubscribeError) Unwrap() []error {
	var errs []error
	for _, r := range e.Results {
		if r.Err != nil {
			errs = append(errs, r.Err)
		}
	}
	return errs
}

// SetAsideError says that the server seems to cut the link because of a SUBSCRIBE or
// UNSUBSCRIBE of one filter: three links in a row, each of which had been up for a second
// before, ended within a second after this packet alone was sent. It is not sent again.
// MQTT 3.1 servers cannot refuse a filter in another way; AWS IoT (no permission) and
// Mosquitto (too many levels) cut the link in every version.
type SetAsideError struct {
	// Packet is [PacketSubscribe] or [PacketUnsubscribe].
	Packet PacketType
	// Filter is the filter in the packet.
	Filter string
	// Err is what the last of the links ended with: a *[ReasonError] when an MQTT 5
	// server gave a reason, else a network error.
	Err error
}

// Error names packet, filter and how the last link ended.
func (e *SetAsideError) Error() string {
	return fmt.Sprintf("mqtt: %v of %q set aside, the link died each time it was sent: %s", e.Packet, e.Filter, trimPrefix(e.Err))
}

// Unwrap returns what the last of the links ended with.
func (e *SetAsideError) Unwrap() error { return e.Err }

// Is makes every SetAsideError an [ErrSetAside].
func (e *SetAsideError) Is(target error) bool { return target == ErrSetAside }

// CallbackError says that a function of the application did not return: it ended its
// goroutine, or Close, Disconnect or Drain waited for it in vain. In the second case
// that call returns when its time is up, and the Conn ends, as [Conn.Done] shows, when
// the function returns.
type CallbackError struct {
	// Function names the function: "packet hook", "credentials function", "log handler",
	// `handler of "plant/#"`, and so on.
	Function string
	// Exited says that the function ended its goroutine, by runtime.Goexit as t.FailNow
	// does. When false it has not returned.
	Exited bool
	// Err is the cause of the context that ended while the library waited, nil when there
	// is none.
	Err error
}

// Error names the function, and says whether it ended its goroutine.
func (e *CallbackError) Error() string {
	what := "has not returned"
	if e.Exited {
		what = "ended its goroutine instead of returning"
	}
	if e.Err != nil {
		return fmt.Sprintf("mqtt: the %s %s: %v", e.Function, what, trimPrefix(e.Err))
	}
	return fmt.Sprintf("mqtt: the %s %s", e.Function, what)
}

// Unwrap returns the cause of the context.
func (e *CallbackError) Unwrap() error { return e.Err }

// trimPrefix is the text of err without the package's prefix, for use inside another
// error text of this package.
func trimPrefix(err error) string {
	if err == nil {
		return "<nil>"
	}
	return strings.TrimPrefix(err.Error(), "mqtt: ")
}
