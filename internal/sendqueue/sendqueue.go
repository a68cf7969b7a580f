// Package sendqueue says how much of what was written to a connection the
// peer's TCP has taken. It asks the socket at the bottom of the connection, so
// that it serves TLS and WebSocket too: there, positions count the bytes of the
// bottom stream.
package sendqueue

import (
	"net"
	"syscall"
)

// maxLayers bounds the search for the socket.
const maxLayers = 8

// A Queue is the send queue of one TCP socket. Its methods may be called by
// several goroutines, and on a closed socket.
type Queue struct{ conn syscall.RawConn }

// Of returns the queue of the TCP socket below nc, nil when there is none or the
// system does not say how much of it the peer has taken. The socket is found
// through NetConn methods, as *tls.Conn has, and SyscallConn methods.
func Of(nc net.Conn) *Queue {
	raw := Socket(nc)
	if raw == nil {
		return nil
	}
	q := &Queue{raw}
	if taken, ok := q.Taken(); !ok || taken == 0 {
		limitUnsent(raw)
		return nil
	}
	return q
}

// Socket returns the socket at the bottom of nc, nil when it is hidden.
func Socket(nc net.Conn) syscall.RawConn {
	for range maxLayers {
		if s, ok := nc.(syscall.Conn); ok {
			raw, err := s.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		}
		layer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = layer.NetConn()
	}
	return nil
}
