package mqtt

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/millrace/mqtt/codec"
)

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
