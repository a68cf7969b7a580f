// Package testhook lets package mqtttest build values of package mqtt that only
// package mqtt can build, without exporting how to everybody.
//
// It imports nothing of the module, so that both sides can import it; values of
// package mqtt therefore pass through it as any.
package testhook

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

// The constructors. Package mqtt sets them while it is initialised, and nobody
// changes them afterwards.
var (
	NewFuture       func() Future
	NewSubscription func(filters []string, opts any) Subscription // opts is a []mqtt.SubscribeOption
)

// Set is called by package mqtt in the initialisation of a variable.
func Set(future func() Future, subscription func([]string, any) Subscription) struct{} {
	NewFuture, NewSubscription = future, subscription
	return struct{}{}
}
