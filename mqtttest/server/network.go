package server

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// DefaultBufferSize is what each direction of a connection holds, in bytes, unless the [Network]
// says otherwise. It is near what a kernel gives a loopback socket.
const DefaultBufferSize = 256 << 10

// backlog is how many connections wait for an Accept before a dial is refused.
const backlog = 128

// Verdicts for a hook of [Network.OnDial], beside any error of its own.
var (
	// ErrSilent lets the dial succeed, but no server accepts the connection or answers on it: what
	// a client meets at a server that hangs.
	ErrSilent = errors.New("mqtttest: dial accepted, then silence")
	// ErrUnanswered leaves the dial without an answer until its context ends: what a client meets
	// behind a firewall that drops packets.
	ErrUnanswered = errors.New("mqtttest: dial unanswered")
)

var errRefused = os.NewSyscallError("connect", syscall.ECONNREFUSED)

// Network is an in-memory network: listeners and the connections dialed to them. The zero value
// is ready for use, inside a testing/synctest bubble and outside. Its methods may be called from
// any goroutine.
type Network struct {
	// BufferSize is what each direction of a connection holds before a Write waits, in bytes.
	// Zero means DefaultBufferSize. Set it before the first dial.
	BufferSize int

	mu        sync.Mutex // guards what follows
	listeners map[string]*Listener
	links     []*Link
	dials     int
	onDial    func(n int, addr string) error
	onLink    func(*Link)
	delay     time.Duration
}

// Dial connects to the listener at addr, or to the one that listens for every address; it has the
// signature of a dialer hook. network is not looked at. ctx bounds the dial. With no listener the
// error is syscall.ECONNREFUSED.
func (n *Network) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	number, delay, verdict := n.begin(addr)
	err := pause(ctx, delay)
	if err == nil {
		err = verdict
	}
	switch {
	case errors.Is(err, ErrUnanswered):
		<-ctx.Done()
		return nil, dialError(addr, ctx.Err())
	case err != nil && !errors.Is(err, ErrSilent):
		return nil, dialError(addr, err)
	}
	if errors.Is(err, ErrSilent) {
		return n.newLink(number, addr).client, nil
	}
	ln := n.listener(addr)
	if ln == nil {
		return nil, dialError(addr, errRefused)
	}
	l := n.newLink(number, addr)
	if !ln.offer(l.server) {
		l.Cut()
		return nil, dialError(addr, errRefused)
	}
	return l.client, nil
}

// begin counts the dial and asks the hook about it.
func (n *Network) begin(addr string) (number int, delay time.Duration, verdict error) {
	n.mu.Lock()
	n.dials++
	number, delay = n.dials, n.delay
	hook := n.onDial
	n.mu.Unlock()
	if hook != nil {
		verdict = hook(number, addr)
	}
	return number, delay, verdict
}

func (n *Network) newLink(number int, addr string) *Link {
	n.mu.Lock()
	l := newLink(number, positiveOr(n.BufferSize, DefaultBufferSize), "client", Addr(addr))
	n.links = append(n.links, l)
	hook := n.onLink
	n.mu.Unlock()
	if hook != nil {
		hook(l)
	}
	return l
}

func (n *Network) listener(addr string) *Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ln := n.listeners[addr]; ln != nil {
		return ln
	}
	return n.listeners[""]
}

// Listen returns a listener for dials to addr; the empty address takes every dial that no other
// listener takes. One listener an address.
func (n *Network) Listen(addr string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: Addr(addr), Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*Listener)
	}
	ln := &Listener{network: n, addr: Addr(addr)}
	ln.cond.L = &ln.mu
	n.listeners[addr] = ln
	return ln, nil
}

// OnDial has hook decide about every dial from now on: nil lets it through, [ErrSilent] and
// [ErrUnanswered] do what they say, any other error is the dial's error. number counts from 1.
// hook runs on the dialing goroutine and may block; nil takes an earlier hook back.
func (n *Network) OnDial(hook func(number int, addr string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onDial = hook
}

// RefuseDials makes the next count dials end with err and those after them pass; a negative count
// means all. A nil err means syscall.ECONNREFUSED. It takes the place of an OnDial hook.
func (n *Network) RefuseDials(count int, err error) {
	if err == nil {
		err = errRefused
	}
	first := n.Dials() + 1
	n.OnDial(func(number int, _ string) error {
		if count < 0 || number < first+count {
			return err
		}
		return nil
	})
}

// OnLink has hook see every connection from now on before either end is handed out: the place to
// set faults for connections that do not exist yet. nil takes an earlier hook back.
func (n *Network) OnLink(hook func(*Link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.onLink = hook
}

// DelayDials makes every dial from now on take d.
func (n *Network) DelayDials(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Dials returns how many dials were begun, refused ones included.
func (n *Network) Dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// Links returns the connections made so far, oldest first, closed ones included.
func (n *Network) Links() []*Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*Link(nil), n.links...)
}

// Last returns the newest connection, nil before the first.
func (n *Network) Last() *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.links) == 0 {
		return nil
	}
	return n.links[len(n.links)-1]
}

// CutAll cuts every connection; see [Link.Cut].
func (n *Network) CutAll() {
	for _, l := range n.Links() {
		l.Cut()
	}
}

func dialError(addr string, err error) error {
	return &net.OpError{Op: "dial", Net: "mem", Addr: Addr(addr), Err: err}
}

// pause waits for d or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func positiveOr(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}
