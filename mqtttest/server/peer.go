package server

import (
	"context"
	"time"
)

// TB is the part of testing.TB that a script reports to.
type TB interface {
	Helper()                           // as in testing.TB
	Fatalf(format string, args ...any) // the same; it must not return
	Cleanup(func())                    // the same
}

// DefaultTimeout is how long a step of a script waits before it fails; virtual time in a bubble.
const DefaultTimeout = 10 * time.Second

// Peer is the other side of a client in a test that looks at raw bytes: it takes the client's
// connections one after the other as [Wire] values and knows nothing of MQTT but where a packet
// ends. A step that fails ends the test by t.Fatalf.
type Peer struct {
	// Timeout bounds every step of the Wires accepted from now on; 0 means DefaultTimeout.
	Timeout time.Duration

	t  TB
	ln *Listener
}

// NewPeer listens at every address of n without a listener. The end of the test, or
// [Peer.Close] before, closes it.
func NewPeer(t TB, n *Network) *Peer {
	t.Helper()
	ln, err := n.Listen("")
	if err != nil {
		t.Fatalf("script: %v", err)
	}
	p := &Peer{t: t, ln: ln}
	t.Cleanup(p.Close)
	return p
}

// Accept waits for the client's next connection, at most until ctx ends or the Timeout passes.
func (p *Peer) Accept(ctx context.Context) *Wire {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	c, err := p.ln.AcceptConn(ctx)
	if err != nil {
		p.t.Fatalf("script: no connection within %v: %v", p.timeout(), err)
	}
	w := &Wire{Link: c.Link(), t: p.t, conn: c, timeout: p.timeout()}
	p.t.Cleanup(w.Close)
	return w
}

// ExpectNoDial fails the test if the client connects within d.
func (p *Peer) ExpectNoDial(d time.Duration) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if c, err := p.ln.AcceptConn(ctx); err == nil {
		p.t.Fatalf("script: connection %d within %v, want none", c.Link().Number(), d)
	}
}

// Close refuses further connections; accepted ones live on until their own Close or the test's end.
func (p *Peer) Close() { p.ln.Close() }

func (p *Peer) timeout() time.Duration {
	if p.Timeout > 0 {
		return p.Timeout
	}
	return DefaultTimeout
}
