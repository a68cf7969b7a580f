// Addresses: which addresses a host has, in the order in which to try them, and
// which failures are a reason to try the next.

package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Addresses looks up the addresses of u's host, as host:port, in the order in
// which to try them: that of the resolver, the two families in turn (RFC 8305
// section 4). [Dialer.DialAddresses] connects to them.
//
// A name is looked up only where this Dialer opens the socket itself, or
// LookupHost is set. Else, and for an address, a unix socket or a proxy, the
// result is u.Address() alone, which is handed on. With LocalAddr the result has
// only addresses of its family. ctx bounds the look-up. The error is a
// [*StepError] with [StepResolve].
func (d *Dialer) Addresses(ctx context.Context, u *URL) ([]string, error) {
	if !d.resolves(u) {
		return []string{u.Address()}, nil
	}
	lookup := d.LookupHost
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := lookup(ctx, u.Host)
	if err == nil {
		found, err = d.sameFamily(u, found)
	}
	if err != nil {
		return nil, &StepError{Step: StepResolve, Server: u.String(), Err: withContext(ctx, err)}
	}
	port := strconv.Itoa(int(u.Port))
	var addresses []string
	for _, a := range interleave(found) {
		addresses = append(addresses, net.JoinHostPort(a.String(), port))
	}
	return addresses, nil
}

// resolves reports whether u's host is a name for us to look up.
func (d *Dialer) resolves(u *URL) bool {
	if u.kind().local || u.SRV() || d.DialFunc != nil && d.LookupHost == nil {
		return false
	}
	if _, err := netip.ParseAddr(u.Host); err == nil {
		return false
	}
	proxy, err := d.proxyFor(u)
	return proxy == nil && err == nil // an error is the dial's to report
}

// sameFamily leaves out addresses that LocalAddr cannot reach, and those that are
// there twice.
func (d *Dialer) sameFamily(u *URL, found []netip.Addr) ([]netip.Addr, error) {
	local, _ := d.LocalAddr.(*net.TCPAddr)
	bound := local != nil && local.IP != nil && !local.IP.IsUnspecified()
	seen := map[netip.Addr]bool{}
	var kept []netip.Addr
	for _, a := range found {
		a = a.Unmap()
		if seen[a] || bound && a.Is4() != (local.IP.To4() != nil) {
			continue
		}
		seen[a] = true
		kept = append(kept, a)
	}
	switch {
	case len(kept) > 0:
		return kept, nil
	case len(found) > 0:
		return nil, &net.AddrError{Err: "no address of the host is of the family of the local address", Addr: local.String()}
	}
	return nil, &net.DNSError{Err: "no such host", Name: u.Host, IsNotFound: true}
}

// interleave takes the families in turn, beginning with that of the first
// address: else a family that does not work uses up the time of the other
// (RFC 8305 section 4).
func interleave(found []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range found {
		if a.Is4() == found[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	var out []netip.Addr
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}

// Share bounds what is tried at the first of left addresses: half of the time
// that ctx has left, so that a silent one does not use up the time of the others,
// and all of it for the last. Without a deadline there is nothing to share.
func Share(ctx context.Context, left int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || left < 2 {
		return context.WithCancel(ctx)
	}
	half := time.Until(deadline) / 2
	return context.WithTimeoutCause(ctx, half, &shareError{half})
}

// shareError says that an address used up its share of the time.
type shareError struct{ share time.Duration }

func (e *shareError) Error() string {
	return "no answer within " + e.share.Round(time.Millisecond).String() + ", the share of this address"
}

// Timeout makes it a timeout in the sense of net.Error.
func (e *shareError) Timeout() bool { return true }

// Temporary is part of net.Error.
func (e *shareError) Temporary() bool { return true }

func (e *shareError) Is(target error) bool { return target == context.DeadlineExceeded }

// Walk goes over addresses: it has try connect to one of left until that succeeds,
// answered says of its error that the peer answered, none is left, or ctx ends.
// try returns the address that accepted the socket, or none, as
// [Dialer.DialAddresses] does; left is without those that have had their share.
// The error is that of try, or joins those of all that had a share.
func Walk(ctx context.Context, addresses []string, answered func(error) bool, try func(left []string) (used string, err error)) error {
	var failed []error
	for left := addresses; ; {
		used, err := try(left)
		if err == nil {
			return nil
		}
		switch i := slices.Index(left, used); {
		case i >= 0:
			left = slices.Concat(left[:i], left[i+1:])
		case len(left) > 1 && ctx.Err() == nil && isDial(err) && errors.Is(err, context.DeadlineExceeded):
			// All are silent or refuse, and the first has had its share.
			err, left = about(err, left[0]), left[1:]
		default:
			left = nil
		}
		failed = append(failed, err)
		if len(left) == 0 || ctx.Err() != nil || answered(err) {
			return joined(failed)
		}
	}
}

func isDial(err error) bool {
	step, ok := errors.AsType[*StepError](err)
	return ok && step.Step == StepDial
}

// about returns what err, which may join errors, says about address.
func about(err error, address string) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range all.Unwrap() {
			if step, ok := errors.AsType[*StepError](one); ok && step.Address == address {
				return one
			}
		}
	}
	return err
}

// joined is the error that stands for all.
func joined(all []error) error {
	if len(all) == 1 {
		return all[0]
	}
	return errors.Join(all...)
}

// Answered reports whether err, of a connection that was being made, says that
// the peer answered: with an HTTP status, a certificate that fails, a TLS alert,
// a close frame that gives a reason, anything but silence, a refused or a cut
// connection. Another address of the same host is then not worth trying.
func Answered(err error) bool {
	if step, ok := errors.AsType[*StepError](err); ok && step.Step == StepDial {
		return false
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok && (alert.Op == "remote error" || alert.Op == "local error") {
		return true // crypto/tls's names for an alert by the peer, or for what the peer sent
	}
	if frame, ok := errors.AsType[*CloseError](err); ok {
		return !frame.away()
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return false
	}
	return !isErrno(err) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) &&
		!errors.Is(err, net.ErrClosed) && !errors.Is(err, context.DeadlineExceeded)
}

// away reports whether the peer ended the stream for reasons of its own: it says
// nothing of the client.
func (e *CloseError) away() bool {
	switch e.Code {
	case normalClosure, noCloseCode, 1001, 1011, 1012, 1013: // going away, internal error, restart, try again later
		return true
	}
	return false
}
