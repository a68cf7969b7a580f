package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// readsOnly is a peer that reads and says nothing.
func readsOnly(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// says is a peer that sends text and nothing further.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		readsOnly(conn)
	}
}

// block waits until ctx has ended.
func block(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }

// stalls are the steps at which a dial can come to a halt.
var stalls = []struct {
	name, raw, proxy string
	peer             func(net.Conn)
	edit             func(*Dialer)
	step             Step
}{
	{name: "no SRV answer", raw: "mqtt+srv://broker.test", step: StepResolve, edit: func(d *Dialer) {
		d.LookupSRV = func(ctx context.Context, _, _, _ string) (string, []*net.SRV, error) { return "", nil, block(ctx) }
	}},
	{name: "no address", raw: "mqtt://broker.test", step: StepResolve, edit: func(d *Dialer) {
		d.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			_ = block(ctx)
			return nil, &net.DNSError{Err: "i/o timeout", IsTimeout: true}
		}
	}},
	{name: "no socket", raw: "mqtt://broker.test", step: StepDial, edit: func(d *Dialer) {
		d.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, block(ctx) }
	}},
	{name: "headers", raw: "ws://broker.test", step: StepWebSocket, edit: func(d *Dialer) {
		d.HeaderFunc = func(ctx context.Context, _ *URL) (http.Header, error) { return nil, block(ctx) }
	}},
	{name: "proxy socket", raw: "mqtt://broker.test", proxy: "http://p.test", step: StepProxy, edit: func(d *Dialer) {
		d.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, block(ctx) }
	}},
	{name: "CONNECT", raw: "mqtt://broker.test", proxy: "http://p.test:1", peer: readsOnly, step: StepProxy},
	{name: "half of CONNECT", raw: "mqtts://broker.test", proxy: "http://p.test:1", peer: says("HTTP/1.1 200 OK\r\nA: "), step: StepProxy},
	{name: "TLS of the proxy", raw: "mqtt://broker.test", proxy: "https://p.test:1", peer: readsOnly, step: StepProxy},
	{name: "SOCKS greeting", raw: "wss://broker.test", proxy: "socks5://p.test:1", peer: readsOnly, step: StepProxy},
	{name: "half of SOCKS", raw: "mqtt://broker.test", proxy: "socks5://p.test:1", peer: says("\x05\x00\x05"), step: StepProxy},
	{name: "TLS behind a proxy", raw: "wss://broker.test", proxy: "socks5://p.test:1", step: StepTLS,
		peer: says("\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")},
	{name: "TLS", raw: "mqtts://broker.test:1", peer: readsOnly, step: StepTLS},
	{name: "half a TLS record", raw: "mqtts://broker.test:1", peer: says("\x16\x03\x03\x00\x7a\x02"), step: StepTLS},
	{name: "TLS of wss", raw: "wss://broker.test:1", peer: readsOnly, step: StepTLS},
	{name: "no 101", raw: "ws://broker.test:1", peer: readsOnly, step: StepWebSocket},
	{name: "half a 101", raw: "ws://broker.test:1", peer: says("HTTP/1.1 101 Switching"), step: StepWebSocket},
	{name: "half a refusal", raw: "ws://broker.test:1", peer: says("HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\nbecause"), step: StepWebSocket},
	{name: "reads nothing", raw: "ws://broker.test:1", peer: func(c net.Conn) { c.(*memConn).waitForPeer() }, step: StepWebSocket},
}

// Each step meets a peer that accepts and then says nothing, or half of what
// is wanted. The dial ends exactly at the deadline, names the step, and leaves
// neither socket nor goroutine.
func TestStallAtEachStepEndsAtTheDeadline(t *testing.T) {
	const limit = 3 * time.Second
	errShutdown := errors.New("shutting down")
	ends := map[string]func(context.Context) (context.Context, context.CancelFunc, []error){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc, []error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			return ctx, cancel, []error{context.DeadlineExceeded}
		},
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc, []error) {
			ctx, cancel := context.WithCancelCause(ctx)
			timer := time.AfterFunc(limit, func() { cancel(errShutdown) })
			return ctx, func() { timer.Stop(); cancel(nil) }, []error{context.Canceled, errShutdown}
		},
	}
	for _, tt := range stalls {
		for end, ending := range ends {
			t.Run(tt.name+" "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newMemNet(t)
					n.handlers["broker.test:1"], n.handlers["p.test:1"] = tt.peer, tt.peer
					d := Dialer{DialFunc: n.dial}
					if tt.proxy != "" {
						d.Proxy = mustURL(t, tt.proxy)
					}
					if tt.edit != nil {
						tt.edit(&d)
					}
					ctx, cancel, want := ending(t.Context())
					defer cancel()
					start := time.Now()
					conn, err := d.Dial(ctx, mustParse(t, tt.raw))
					step, ok := errors.AsType[*StepError](err)
					if conn != nil || !ok || step.Step != tt.step || step.Server == "" || (step.Proxy != "") != (tt.proxy != "") {
						t.Fatalf("got %v, %v; want a StepError at %s", conn, err, tt.step)
					}
					for _, cause := range want {
						if !errors.Is(err, cause) {
							t.Errorf("got %v, want it to wrap %v", err, cause)
						}
					}
					if took := time.Since(start); took != limit {
						t.Errorf("took %v, want %v", took, limit)
					}
					n.mustAllBeClosed()
				})
			})
		}
	}
}
