// The WebSocket layer: the HTTP upgrade on a connection that is open already.

package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// A BufferPool keeps write buffers between uses. *sync.Pool is one.
type BufferPool interface {
	// Get returns a value that was Put, or nil.
	Get() any
	// Put gives a value back.
	Put(any)
}

const (
	// writeBuffer is the link's mark for a full buffer, so that a usual batch
	// is one frame.
	writeBuffer = 128 << 10
	// readBuffer is held for the life of a connection; larger reads pass by it.
	readBuffer = 8 << 10
	// maxAnswer bounds the header of the server's answer.
	maxAnswer = 64 << 10
	// maxBody bounds what a HandshakeError keeps of the body.
	maxBody = 512
)

// header returns the header of one attempt.
func (d *Dialer) header(ctx context.Context, u *URL) (http.Header, error) {
	header := canonical(d.Header)
	if d.HeaderFunc != nil {
		own, err := d.HeaderFunc(ctx, u)
		if err != nil {
			return nil, err
		}
		maps.Copy(header, canonical(own))
	}
	return header, nil
}

// canonical copies header with canonical names: one that was not made with
// Header.Set could otherwise slip past the replacement here and gorilla's
// check for headers of the handshake.
func canonical(header http.Header) http.Header {
	out := make(http.Header, len(header))
	for name, values := range header {
		key := http.CanonicalHeaderKey(name)
		out[key] = append(out[key], values...)
	}
	return out
}

func (d *Dialer) upgrade(u *URL, header http.Header) func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
	return func(ctx context.Context, below, raw net.Conn) (net.Conn, error) {
		g := newGate(below)
		offered := d.Subprotocols
		if offered == nil {
			offered = []string{"mqtt"}
		}
		give := func(context.Context, string, string) (net.Conn, error) { return g, nil }
		dialer := &websocket.Dialer{
			NetDialContext:    give,
			NetDialTLSContext: give, // TLS is done below
			ReadBufferSize:    readBuffer,
			WriteBufferSize:   writeBuffer,
			WriteBufferPool:   d.writeBuffers(),
			Subprotocols:      offered,
		}
		ws, response, err := dialer.DialContext(ctx, requestURL(u), header)
		if e := checkExtensions(response); e != nil {
			return nil, e
		}
		if err != nil {
			return nil, handshakeProblem(response, header, err)
		}
		if err := d.checkSubprotocol(offered, ws.Subprotocol()); err != nil {
			return nil, err
		}
		return newWebSocketConn(ws, g, raw), nil
	}
}

// writeBuffers never returns a pool of the package: nothing outlives the
// connections that use it.
func (d *Dialer) writeBuffers() BufferPool {
	if d.WriteBuffers != nil {
		return d.WriteBuffers
	}
	return new(sync.Pool)
}

// requestURL is u as gorilla wants it: without credentials, and with a port
// only if it is not the default, since it becomes the Host header.
func requestURL(u *URL) string {
	to := *u
	if to.Port == to.kind().port {
		to.Port = 0
	}
	text := to.Scheme + "://" + to.authority() + to.Path
	if query := u.RawQuery(); query != "" {
		text += "?" + query
	}
	return text
}

// checkExtensions refuses an answer that chooses an extension, since none was offered
// (RFC 6455 section 4.1).
func checkExtensions(response *http.Response) error {
	if response == nil || response.StatusCode != http.StatusSwitchingProtocols {
		return nil
	}
	chosen := strings.TrimSpace(strings.Join(response.Header.Values("Sec-Websocket-Extensions"), ", "))
	if chosen == "" {
		return nil
	}
	return &ExtensionError{Chosen: chosen[:min(len(chosen), maxBody)]}
}

// checkSubprotocol looks at what the server answered.
func (d *Dialer) checkSubprotocol(offered []string, answer string) error {
	if slices.Contains(offered, chosenSubprotocol(answer)) || answer == "" && d.AllowMissingSubprotocol {
		return nil
	}
	return &SubprotocolError{Offered: slices.Clone(offered), Chosen: answer}
}

// chosenSubprotocol returns the first name of the answer. RFC 6455 section 4.2.2
// wants a single one, but some servers repeat the list that they were offered. The
// case of a name counts.
func chosenSubprotocol(answer string) string {
	first, _, _ := strings.Cut(answer, ",")
	return strings.TrimSpace(first)
}

// handshakeProblem turns an answer that is no upgrade into a HandshakeError. Some gateways
// repeat the request in it, sent with its header.
func handshakeProblem(response *http.Response, sent http.Header, err error) error {
	// The text of a url.Error repeats the URL with its query.
	if bad, ok := errors.AsType[*url.Error](err); ok {
		return bad.Err
	}
	if response == nil || !errors.Is(err, websocket.ErrBadHandshake) {
		return err
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxBody))
	for _, values := range response.Header {
		for i := range values {
			values[i] = string(masked([]byte(values[i]), sent))
		}
	}
	return &HandshakeError{
		Status: response.StatusCode,
		Header: response.Header,
		Body:   masked(body, sent),
	}
}

// masked returns text with the values of header replaced, and the words of a value, such as
// the token behind "Bearer". Words of a few letters are no secrets.
func masked(text []byte, header http.Header) []byte {
	for _, values := range header {
		for _, value := range values {
			for _, secret := range append([]string{value}, strings.Fields(value)...) {
				if len(secret) >= shortestSecret {
					text = bytes.ReplaceAll(text, []byte(secret), []byte(mask))
				}
			}
		}
	}
	return text
}

// shortestSecret is the length from which a word of a header may be a secret.
const shortestSecret = 8
