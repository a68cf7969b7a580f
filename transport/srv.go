// DNS SRV: one URL that stands for several servers.

package transport

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"
)

// ErrNoSRVTarget is in the chain when a domain's SRV records say that it
// offers no such service (a single record with target ".", RFC 2782).
var ErrNoSRVTarget = errors.New("the domain's SRV records name no server")

// Targets expands an SRV URL into the servers to try, in order: by priority,
// then by weighted chance. Each carries u's credentials and the scheme mqtt or
// mqtts, so a certificate is checked against the name in the record. Plain DNS
// does not protect that name; to pin another set ServerName in Dialer.TLS.
//
// Any other URL is returned as the only target, without a lookup. ctx bounds
// the lookup. The error is a [*StepError] with [StepResolve].
func (d *Dialer) Targets(ctx context.Context, u *URL) ([]*URL, error) {
	if !u.SRV() {
		return []*URL{u}, nil
	}
	lookup := d.LookupSRV
	if lookup == nil {
		lookup = net.DefaultResolver.LookupSRV
	}
	scheme, service := "mqtt", "mqtt"
	if u.TLS() {
		scheme, service = "mqtts", "secure-mqtt"
	}
	_, records, err := lookup(ctx, service, "tcp", u.Host)
	targets := targetURLs(u, scheme, records)
	if err == nil && len(targets) == 0 {
		err = ErrNoSRVTarget
	}
	// A resolver may return good records beside an error about bad ones.
	if len(targets) == 0 {
		return nil, &StepError{Step: StepResolve, Server: u.String(), Err: withContext(ctx, err)}
	}
	return targets, nil
}

func targetURLs(u *URL, scheme string, records []*net.SRV) []*URL {
	var targets []*URL
	for _, r := range records {
		host := strings.TrimSuffix(r.Target, ".")
		if host == "" || r.Port == 0 {
			continue
		}
		targets = append(targets, &URL{Scheme: scheme, Host: host, Port: r.Port, secret: u.secret})
	}
	return targets
}

// dialTargets tries the servers in order; the error joins those of all.
func (d *Dialer) dialTargets(ctx context.Context, u *URL) (net.Conn, error) {
	targets, err := d.Targets(ctx, u)
	if err != nil {
		return nil, err
	}
	var failed []error
	for i, target := range targets {
		conn, err := d.dialShare(ctx, target, len(targets)-i)
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, joined(failed)
}

// dialShare gives this server an even share of the time that is left, so that
// one silent server does not use up the turn of the others.
func (d *Dialer) dialShare(ctx context.Context, u *URL, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return d.dialServer(ctx, u)
}
