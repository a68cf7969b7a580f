// Typed errors: what went wrong, at which step, with no secret in any text.

package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// A Step is one stage of making a connection.
type Step string

// The steps, in the order in which they happen.
const (
	// StepResolve looks up names: SRV records, and the addresses of the host.
	StepResolve Step = "resolve"
	// StepDial opens the socket to the server.
	StepDial Step = "dial"
	// StepProxy chooses and reaches the proxy and asks it for the tunnel.
	StepProxy Step = "proxy"
	// StepTLS is the TLS handshake with the server.
	StepTLS Step = "tls"
	// StepWebSocket computes the headers and makes the HTTP upgrade.
	StepWebSocket Step = "websocket"
)

// A StepError says at which step making a connection failed.
//
// It unwraps to the cause: errors of net, crypto/tls and crypto/x509, those
// of this package, and the context's error and cause when the context ended.
type StepError struct {
	// Step is where it failed.
	Step Step
	// Server is the server's URL, secrets redacted.
	Server string
	// Address is the address of the server's host that was tried, with the port;
	// empty when the host was not looked up or the step has nothing to do with it.
	Address string
	// Proxy is the proxy's URL, secrets redacted; empty without one.
	Proxy string
	// Err is the cause, never nil.
	Err error
}

// Error names the step, the server, the proxy and the cause.
func (e *StepError) Error() string {
	via := ""
	if e.Address != "" {
		via = " at " + e.Address
	}
	if e.Proxy != "" {
		via += " via " + e.Proxy
	}
	return fmt.Sprintf("transport: %s %s%s: %v", e.Step, e.Server, via, e.Err)
}

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// withContext adds the context's error and cause to err, which is often no
// more than "use of closed network connection" when the context ended: the
// end of a context closes the socket.
func withContext(ctx context.Context, err error) error {
	for _, end := range []error{context.Cause(ctx), ctx.Err()} {
		if end != nil && !errors.Is(err, end) {
			err = fmt.Errorf("%w: %w", end, err)
		}
	}
	return err
}

// failedDial tells a name that did not resolve from a socket that did not open.
func failedDial(err error) Step {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return StepResolve
	}
	return StepDial
}

// A URLError says which part of a server or proxy URL is wrong.
//
// Its text never repeats the URL: a malformed one may hold its password in
// any place. Only a scheme is quoted.
type URLError struct {
	// Part is the part at fault: "url", "scheme", "userinfo", "host", "port",
	// "path", "query" or "fragment".
	Part string
	// Problem says what is wrong with it.
	Problem string
}

// Error names the part and its problem, never the URL.
func (e *URLError) Error() string {
	return "transport: URL " + e.Part + ": " + e.Problem
}

// A ProxyError is a proxy's refusal of the tunnel.
type ProxyError struct {
	// Status is the HTTP status code of the answer to CONNECT.
	Status int
	// Reason is the status text the proxy sent.
	Reason string
}

// Error gives the proxy's status and reason.
func (e *ProxyError) Error() string {
	return fmt.Sprintf("the proxy refused the tunnel: %d %s", e.Status, strconv.Quote(e.Reason))
}

// A HandshakeError is an HTTP answer that is no upgrade to WebSocket.
type HandshakeError struct {
	// Status is the HTTP status code. 101 means that the answer claimed the
	// upgrade with wrong headers.
	Status int
	// Header is the answer's header, to tell a redirect or a challenge.
	Header http.Header
	// Body is the start of the answer's body, at most 512 bytes. In body and header the
	// values of the request's own headers are replaced by "xxxxx".
	Body []byte
}

// Error gives the status and the start of the body, quoted.
func (e *HandshakeError) Error() string {
	text := fmt.Sprintf("the server did not upgrade to websocket: HTTP %d %s", e.Status, http.StatusText(e.Status))
	if len(e.Body) > 0 {
		text += ": " + strconv.Quote(string(e.Body))
	}
	return text
}

// A SubprotocolError is a server that chose no subprotocol, or one that was
// not offered [MQTT-6.0.0-4].
type SubprotocolError struct {
	// Offered lists what the client offered.
	Offered []string
	// Chosen is the server's choice; empty when it made none.
	Chosen string
}

// Error gives the offer and the choice.
func (e *SubprotocolError) Error() string {
	offered := strings.Join(e.Offered, ", ")
	if e.Chosen == "" {
		return "the server chose no websocket subprotocol of the offered " + strconv.Quote(offered)
	}
	return fmt.Sprintf("the server chose websocket subprotocol %q, offered was %q", e.Chosen, offered)
}

// An ExtensionError is a server that chose a WebSocket extension, such as
// permessage-deflate. The client offers none (RFC 6455 section 4.1).
type ExtensionError struct {
	// Chosen is the Sec-WebSocket-Extensions header of the answer, at most 512 bytes.
	Chosen string
}

// Error gives the choice.
func (e *ExtensionError) Error() string {
	return fmt.Sprintf("the server chose websocket extension %q, none was offered", e.Chosen)
}

// A CloseError is a close frame from the peer. It unwraps to io.EOF: the peer
// has ended the stream.
type CloseError struct {
	// Code is the status code of RFC 6455 section 7.4, 1005 if the frame has none.
	Code int
	// Text is the reason the peer gave, at most 123 bytes.
	Text string
}

// Error gives the code and the reason, quoted.
func (e *CloseError) Error() string {
	switch {
	case e.Code == noCloseCode:
		return "the peer closed the websocket without a code"
	case e.Text == "":
		return fmt.Sprintf("the peer closed the websocket: %d", e.Code)
	}
	return fmt.Sprintf("the peer closed the websocket: %d %s", e.Code, strconv.Quote(e.Text))
}

// Plain reports whether the frame gives no reason: code 1000, normal closure,
// or none, and no text.
func (e *CloseError) Plain() bool {
	return e.Text == "" && (e.Code == normalClosure || e.Code == noCloseCode)
}

// Status codes of RFC 6455 section 7.4.1.
const (
	normalClosure = 1000
	noCloseCode   = 1005
)

// Unwrap returns io.EOF.
func (e *CloseError) Unwrap() error { return io.EOF }
