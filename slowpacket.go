package mqtt

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
)

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

// explain adds to the cause of the link's end what the user can do about it: a ping
// was waiting for so long that with what stood before it the server may have heard
// no packet for one and a half keep alives.
func (l *link) explain(cause error) error {
	handed, keepAlive := l.handed.Load(), l.agreed.keepAlive
	waits := handed > l.received.Load() && time.Duration(l.since()-handed) >= keepAlive/2
	if !waits || !cutByServer(cause) {
		return cause
	}
	return &slowPacketError{cause, keepAlive}
}

// cutByServer reports whether the server, or the network, ended a link, and gave no
// other reason than the keep alive.
func cutByServer(cause error) bool {
	if reason, ok := errors.AsType[*ReasonError](cause); ok {
		return reason.Code == codec.KeepAliveTimeout
	}
	_, network := errors.AsType[*net.OpError](cause)
	return network || errors.Is(cause, io.ErrUnexpectedEOF) || errors.Is(cause, io.EOF)
}
