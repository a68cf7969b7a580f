package mqtt

import (
	"context"
	"time"
)

// This file calls functions of the application, so that one that does not return, or
// ends its goroutine, takes nothing else with it.

// The names of functions in a CallbackError.
const (
	errorPolicy     = "error policy"
	backoffPolicy   = "backoff policy"
	credentialsFunc = "credentials function"
	srvLookup       = "SRV lookup"
	hostLookup      = "host lookup"
	dialerFunc      = "dialer, header function or TLS callback"
	logHandler      = "log handler"
	packetHook      = "packet hook"
	dialedConn      = "net.Conn of the dialer"
	sessionStore    = "session store"
)

// apart calls f, which is or calls a function of the application, in a goroutine of its
// own and waits for it. When stop is closed apart waits for killTime more and then
// returns without f, which may itself be waiting for the end of the Conn. An f that ends
// its goroutine ends no other.
func apart[T any](stop <-chan struct{}, name string, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	answer, left := make(chan result), make(chan struct{})
	// Owned by the caller, which waits for it as the comment of apart says; it ends when f does.
	go func() {
		r := result{err: &CallbackError{Function: name, Exited: true}}
		defer func() {
			if p := recover(); p != nil {
				panic(p) // nothing goes on meanwhile
			}
			select {
			case answer <- r:
			case <-left:
			}
		}()
		r.value, r.err = f()
	}()
	select {
	case r := <-answer:
		return r.value, r.err
	case <-stop:
	}
	timer := time.NewTimer(killTime)
	defer timer.Stop()
	select {
	case r := <-answer:
		return r.value, r.err
	case <-timer.C:
	}
	close(left)
	var none T
	return none, &CallbackError{Function: name}
}

// ask is apart for a function that ctx bounds.
func ask[T any](ctx context.Context, name string, f func() (T, error)) (T, error) {
	answer, err := apart(ctx.Done(), name, f)
	if e, ok := err.(*CallbackError); ok && !e.Exited {
		e.Err = context.Cause(ctx)
	}
	return answer, err
}

// killTime is how long a function of the application, or a call of the socket, may still
// take when it is time to go on without it.
const killTime = 250 * time.Millisecond
