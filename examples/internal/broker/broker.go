package broker

import (
	"crypto/tls"
	"log/slog"
	"net"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// Or returns given, the -broker flag of an example. When it is empty it starts a
// server on a free loopback port and returns its URL. stop ends that server.
func Or(given string) (url string, stop func(), err error) {
	if given != "" {
		return given, func() {}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return start("mqtt://"+l.Addr().String(), listeners.NewNet("tcp", l))
}

// TLS starts a server that speaks TLS by config. Its URL names the host localhost.
func TLS(config *tls.Config) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "", nil, err
	}
	return start("mqtts://localhost:"+port, listeners.NewNet("tls", tls.NewListener(l, config)))
}

// WebSocketOr is Or for a server that is reached by WebSocket.
func WebSocketOr(given string) (url string, stop func(), err error) {
	if given != "" {
		return given, func() {}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return start("ws://"+l.Addr().String()+"/mqtt", &webSocket{listener: l})
}

func start(url string, l listeners.Listener) (string, func(), error) {
	s := server.New(&server.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		return "", nil, err
	}
	if err := s.AddListener(l); err != nil {
		return "", nil, err
	}
	if err := s.Serve(); err != nil {
		return "", nil, err
	}
	return url, func() { s.Close() }, nil
}
