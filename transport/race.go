// race: one socket to the first of several addresses that accepts.

package transport

import (
	"context"
	"errors"
	"net"
	"time"
)

// connectionAttemptDelay is how long a TCP connect has the field for itself
// before the next address is tried beside it: what RFC 8305 section 5 recommends.
const connectionAttemptDelay = 250 * time.Millisecond

// errExited is the error of a connect that gave none.
var errExited = errors.New("DialFunc ended its goroutine instead of returning")

// raced is the result of one connect.
type raced struct {
	i    int
	conn net.Conn
	err  error
}

// race begins to connect to one address after the other, the next when the one
// before failed or has not answered for connectionAttemptDelay, and returns the
// first connection and the index of its address. The others are given up. When
// none accepts i is -1 and errs has an error for each address.
//
// Each connect runs in a goroutine of its own that ends with the connect. race waits
// for all of them when none accepts. Those that are given up for the first connection
// do not hold it up: what they open, as a DialFunc that does not look at its context
// may do late, is closed when it comes.
func (d *Dialer) race(ctx context.Context, network string, addresses []string) (conn net.Conn, i int, errs []error) {
	errs = make([]error, len(addresses))
	if len(addresses) == 1 {
		if conn, errs[0] = d.dial(ctx, network, addresses[0]); errs[0] != nil {
			return nil, -1, errs
		}
		return conn, 0, nil
	}
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan raced, len(addresses))
	begun, ended := 0, 0
	begin := func() {
		i := begun
		begun++
		go func() {
			r := raced{i: i, err: errExited}
			defer func() { results <- r }()
			r.conn, r.err = d.dial(within, network, addresses[i])
		}()
	}
	begin()
	timer := time.NewTimer(connectionAttemptDelay)
	defer timer.Stop()
	for ended < len(addresses) {
		select {
		case <-timer.C:
			if begun < len(addresses) {
				begin()
				timer.Reset(connectionAttemptDelay)
			}
			continue
		case r := <-results:
			ended++
			if r.err == nil {
				cancel()
				go closeRest(results, begun-ended) // ends with the last connect that is given up; not waited for
				return r.conn, r.i, nil
			}
			errs[r.i] = r.err
		}
		if begun < len(addresses) {
			begin()
			timer.Reset(connectionAttemptDelay)
		}
	}
	return nil, -1, errs
}

// closeRest waits for the connects that are given up, and closes the connections of
// those that succeed all the same.
func closeRest(results <-chan raced, running int) {
	for range running {
		if r := <-results; r.err == nil {
			_ = r.conn.Close()
		}
	}
}
