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

// This file has the errors that have no exported type: what ends a link or a Conn, and
// what stands inside the exported errors of errors.go.

// errLocalClose is the cause of a link that this side ended in order.
var errLocalClose = errors.New("mqtt: closed by this side")

// closedBy makes the end of the Conn the error of what it leaves unfinished.
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

// errDisconnectLate is the error of a Disconnect whose context left no more time
// for pending publishes.
var errDisconnectLate = &timeoutError{"disconnect: not everything was finished in the time of the context, the end of which is kept for the DISCONNECT"}

// timeoutError is a net.Error that says what took too long.
type timeoutError struct{ what string }

func (e *timeoutError) Error() string { return "mqtt: " + e.what }

// Timeout makes it a timeout in the sense of net.Error.
func (e *timeoutError) Timeout() bool { return true }

// Temporary is part of net.Error.
func (e *timeoutError) Temporary() bool { return true }

func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// linkLost wraps the reason why a link ended.
func linkLost(cause error) error {
	return &lostError{cause}
}

// lostError is an ErrLinkLost with the reason.
type lostError struct{ cause error }

func (e *lostError) Error() string { return "link lost: " + trimPrefix(e.cause) }

func (e *lostError) Unwrap() error { return e.cause }

func (e *lostError) Is(target error) bool { return target == ErrLinkLost }

// noAnswerError is a connection closed instead of a CONNACK.
type noAnswerError struct {
	version Version
	frame   *transport.CloseError // of a WebSocket, nil without one
	speaks5 bool                  // so that it did not mean the version
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

// Unwrap returns the close frame, which is an io.EOF too, or io.EOF.
func (e *noAnswerError) Unwrap() error {
	if e.frame != nil {
		return e.frame
	}
	return io.EOF
}

// slowPacketError is the end of a link that the server may have cut because no
// packet had ended for one and a half keep alives (section 3.1.2.10).
type slowPacketError struct {
	err       error
	keepAlive time.Duration
}

func (e *slowPacketError) Error() string {
	return fmt.Sprintf("%v; the server may have cut because a packet took longer than 1.5 times the keep alive of %v: WithKeepAlive sets a longer one", e.err, e.keepAlive)
}

func (e *slowPacketError) Unwrap() error { return e.err }

func noRoom(t codec.Type, size, limit int) error {
	return &noRoomError{t, PacketTooLargeError{Size: size, Max: limit}}
}

// noRoomError ends a link whose server takes no packet of the size that is owed.
type noRoomError struct {
	packet codec.Type
	size   PacketTooLargeError
}

func (e *noRoomError) Error() string {
	return fmt.Sprintf("mqtt: the server's Maximum Packet Size leaves no room for %s: %s", e.packet, trimPrefix(&e.size))
}

// Unwrap makes it a *[PacketTooLargeError].
func (e *noRoomError) Unwrap() error { return &e.size }

// protocolFault makes the codec's error the cause of the link's end.
func protocolFault(err error) error {
	if e, ok := errors.AsType[*codec.Error](err); ok {
		return &ProtocolError{Code: e.Code, Detail: e.Error(), Err: err}
	}
	return err
}

func overReceiveMaximum() error {
	return &ProtocolError{Code: codec.ReceiveMaximumExceeded, Detail: "more QoS 1 and 2 messages under way than our Receive Maximum [MQTT-3.3.4-9]"}
}

// wrongAck is why a link ends.
func wrongAck(t codec.Type) error {
	return &ProtocolError{Code: codec.ProtocolError, Detail: t.String() + " for an exchange of another kind", Err: ErrWrongAck}
}

// errTakenAtQoS1 is how a QoS 2 publish fails that a 3.x server answered by PUBACK.
var errTakenAtQoS1 = fmt.Errorf("%w: PUBACK for QoS 2: the server took the message and has no QoS 2, as RabbitMQ; publish at QoS 1 there", ErrWrongAck)

// errUnexpectedDisconnect is behind the ProtocolError for a DISCONNECT of the server that the
// standard does not have: on 3.x, where mochi sends one when it is shut down, or with a
// Session Expiry Interval. It announces a close, and says nothing about a message.
var errUnexpectedDisconnect = errors.New("mqtt: not a DISCONNECT that a server may send")

// faultKey tells one faulty message from another: what is wrong with it, and a hash of
// its topic. Servers may give the same message another packet identifier.
type faultKey struct {
	text  string
	topic uint64
}

// messageFault is behind the ProtocolError of a message that can be passed over.
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

// problemOf is what the codec says is wrong with a string.
func problemOf(err error) string {
	if e, ok := errors.AsType[*codec.Error](err); ok {
		return e.Detail
	}
	return err.Error()
}

// errStoreHangs is why a Conn ended without closing its session's store.
var errStoreHangs = errors.New("a commit does not return")

// exceededMaximum reports whether a link ended because the server sent more than
// our Receive Maximum allows [MQTT-3.3.4-9].
func exceededMaximum(err error) bool {
	p, ok := errors.AsType[*ProtocolError](err)
	return ok && p.Code == codec.ReceiveMaximumExceeded
}
