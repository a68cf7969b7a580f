// Package testhook lets package mqtttest and the tests in test/ build and see what
// only package mqtt can build and see, without exporting it to every user.
//
// It imports nothing of the module, so that both sides can import it; values of
// package mqtt therefore pass through it as any.
package testhook

import "time"

// Future is a *mqtt.Future and the end of it that a Conn holds otherwise.
type Future struct {
	Future  any // *mqtt.Future
	Advance func(stage uint8, packetID uint16)
	Resolve func(result any, err error) // result is a mqtt.Result
}

// Subscription is a *mqtt.Subscription and the end of it that a Conn holds otherwise.
type Subscription struct {
	Subscription any                // *mqtt.Subscription
	Deliver      func(msg any) bool // takes a mqtt.Message; false when the subscription has ended
	End          func(err error)
	Acked        func() int // acknowledgements that would have gone to a server
}

// Clock is the clock of a machine that a test puts to sleep and boots.
type Clock struct {
	Uptime func() time.Duration // runs on while the machine sleeps
	Wall   func() time.Time
	Boot   func() [16]byte // names the boot that Uptime belongs to
}

// Hooks are what package mqtt gives to tests.
type Hooks struct {
	NewFuture       func() Future
	NewSubscription func(filters []string, opts any) Subscription // opts is a []mqtt.SubscribeOption
	WithClock       func(Clock) any                               // returns a mqtt.ConnectOption
	InboxProblems   func(conn any) []string                       // takes a *mqtt.Conn
}

// hooks are set by package mqtt while it is initialised, and never changed afterwards.
var hooks Hooks

// Set is called by package mqtt in the initialisation of a variable.
func Set(h Hooks) struct{} {
	hooks = h
	return struct{}{}
}

// NewFuture makes a Future that is not of a Conn.
func NewFuture() Future { return hooks.NewFuture() }

// NewSubscription makes a Subscription that is not of a Conn.
func NewSubscription(filters []string, opts any) Subscription {
	return hooks.NewSubscription(filters, opts)
}

// WithClock returns the mqtt.ConnectOption that makes a Conn go by c.
func WithClock(c Clock) any { return hooks.WithClock(c) }

// InboxProblems checks that book, queues and counts of the inbox of a *mqtt.Conn agree.
func InboxProblems(conn any) []string { return hooks.InboxProblems(conn) }
