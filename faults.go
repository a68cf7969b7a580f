package mqtt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// This file has the errors without an exported type: the causes for which a link or a Conn
// ends, and the errors that those of errors.go wrap.

// errLocalClose is the cause of a link that this side ended in order.
var errLocalClose = errors.New("mqtt: closed by this side")

// closedBy returns the error of publishes that the end of the Conn, with err, leaves
// unresolved.
func closedBy(err error) error {
	if err == ErrClosed {
		return err
	}
	return &closedError{err}
}

// closedError is an ErrClosed with the reason.
type closedError struct{ cause error }

func (e *closedError) Error() string { return "connection closed: " + trimPrefix(e.cause) }

func (e *closedError) Unwrap() error { return e.cause }

func (e *closedError) Is(target error) bool { return target == ErrClosed }

// scopeError says that the context given to Connect ended.
type scopeError struct{ cause error }

func (e *scopeError) Error() string {
	return fmt.Sprintf("mqtt: the context given to Connect ended (%v); it scopes the Conn, use WithConnectTimeout for the dial", e.cause)
}

func (e *scopeError) Unwrap() error { return e.cause }

// Is makes it an ErrClosed too.
func (e *scopeError) Is(target error) bool { return target == ErrClosed }

// errDisconnectLate is the error of a Disconnect whose context gave too little time for
// pending publishes.
var errDisconnectLate = &timeoutError{"disconnect: not everything was finished in the time of the context, the end of which is kept for the DISCONNECT"}

// timeoutError is a net.Error with a text that names the operation and the time.
type timeoutError struct{ what string }

func (e *timeoutError) Error() string { return "mqtt: " + e.what }

// Timeout makes it a timeout in the sense of net.Error.
func (e *timeoutError) Timeout() bool { return true }

// Temporary is part of net.Error.
func (e *timeoutError) Temporary() bool { return true }

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// linkLost returns the ErrLinkLost for a link that ended with cause.
func linkLost(cause error) error {
	return &lostError{cause}
}

// lostError is an ErrLinkLost with the reason.
type lostError struct{ cause error }

func (e *lostError) Error() string { return "link lost: " + trimPrefix(e.cause) }

func (e *lostError) Unwrap() error { return e.cause }

func (e *lostError) Is(target error) bool { return target == ErrLinkLost }

// noAnswerError says that the server closed the connection instead of sending CONNACK.
type noAnswerError struct {
	version Version
	frame   *transport.CloseError // of a WebSocket, nil without one
	speaks5 bool                  // the server speaks 5.0: it did not close because of the version
}

func (e *noAnswerError) Error() string {
	text := "the server closed the connection instead of an answer"
	if e.frame != nil {
		text += ": " + e.frame.Error()
	}
	if e.version == V5 && !e.speaks5 && (e.frame == nil || e.frame.Plain()) {
		text += "; it may not speak MQTT 5.0: WithDowngradeOnClose or WithVersions tries 3.1.1"
	}
	return text
}

// Unwrap returns the close frame, which is an io.EOF too, or io.EOF without one.
func (e *noAnswerError) Unwrap() error {
	if e.frame != nil {
		return e.frame
	}
	return io.EOF
}

// slowPacketError is the cause of a link that the server may have cut because no packet
// had ended for one and a half keep alives (section 3.1.2.10).
type slowPacketError struct {
	err       error
	keepAlive time.Duration
}

func (e *slowPacketError) Error() string {
	return fmt.Sprintf("%v; the server may have cut because a packet took longer than 1.5 times the keep alive of %v: WithKeepAlive sets a longer one", e.err, e.keepAlive)
}

func (e *slowPacketError) Unwrap() error { return e.err }

// noRoom returns the noRoomError of packet t.
func noRoom(t codec.Type, size, limit int) error {
	return &noRoomError{t, PacketTooLargeError{Size: size, Max: limit}}
}

// noRoomError is the cause of a link whose server has a Maximum Packet Size below that of a
// packet that must be sent.
type noRoomError struct {
	packet codec.Type
	size   PacketTooLargeError
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("mqtt: the server's Maximum Packet Size leaves no room for %s: %s", e.packet, trimPrefix(&e.size))
}

// Unwrap makes it a *[PacketTooLargeError].
func (e *noRoomError) Unwrap() error { return &e.size }

// protocolFault returns the cause with which the link ends after an error of the codec.
func protocolFault(err error) error {
	if e, ok := errors.AsType[*codec.Error](err); ok {
		return &ProtocolError{Code: e.Code, Detail: e.Error(), Err: err}
	}
	return err
}

// overReceiveMaximum returns the cause of a link whose server exceeded our Receive Maximum.
func overReceiveMaximum() error {
	return &ProtocolError{Code: codec.ReceiveMaximumExceeded, Detail: "more QoS 1 and 2 messages in flight than our Receive Maximum, or than there are packet identifiers [MQTT-3.3.4-9]"}
}

// wrongAck returns the cause of a link whose server sent an acknowledgement t that does not
// fit its exchange.
func wrongAck(t codec.Type) error {
	return &ProtocolError{Code: codec.ProtocolError, Detail: t.String() + " for an exchange of another kind", Err: ErrWrongAck}
}

// errTakenAtQoS1 is the error of a QoS 2 publish that a 3.x server answered by PUBACK.
var errTakenAtQoS1 = fmt.Errorf("%w: PUBACK for QoS 2: the server took the message and has no QoS 2, as RabbitMQ; publish at QoS 1 there", ErrWrongAck)

// errUnexpectedDisconnect is in the ProtocolError for a DISCONNECT that a server may not
// send: one on 3.x, where mochi sends it when it is shut down, or one with a Session Expiry
// Interval. It announces a close, so no message of ours is the reason.
var errUnexpectedDisconnect = errors.New("mqtt: not a DISCONNECT that a server may send")

// faultKey identifies a faulty message by the fault and a hash of its topic, since servers
// may send the same message with another packet identifier.
type faultKey struct {
	text  string
	topic uint64
}

// messageFault is in the ProtocolError of a faulty message that can be dropped instead of
// ending the link.
type messageFault struct {
	key faultKey
	err error // the codec's; nil when the link found the fault
}

func (e *messageFault) Error() string {
	if e.err == nil {
		return e.key.text
	}
	return e.err.Error()
}

func (e *messageFault) Unwrap() error { return e.err }

// nilOption is the error of an option that is nil.
func nilOption() error { return invalid("option", "nil", "must not be nil; leave it out instead") }

// problemOf returns the text of the codec about a string that is not valid.
func problemOf(err error) string {
	if e, ok := errors.AsType[*codec.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

// errStoreHangs is the error of a Conn that ended without closing the session in the store.
var errStoreHangs = errors.New("a commit does not return")

// exceededMaximum reports whether a link ended because the server exceeded our Receive
// Maximum [MQTT-3.3.4-9].
func exceededMaximum(err error) bool {
	p, ok := errors.AsType[*ProtocolError](err)
	return ok && p.Code == codec.ReceiveMaximumExceeded
}
