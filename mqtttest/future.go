package mqtttest

import (
	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/testhook"
)

// ResolvedFuture returns a Future that has resolved with err; nil is success.
// A Conn's own Futures fail with a *[mqtt.PublishError].
func ResolvedFuture(err error) *mqtt.Future {
	f, resolve := PendingFuture()
	resolve(err)
	return f
}

// PendingFuture returns a Future in [mqtt.StageQueued] and the function that
// resolves it. The first call counts.
func PendingFuture() (f *mqtt.Future, resolve func(error)) {
	f, x := NewFuture()
	return f, func(err error) { x.Resolve(mqtt.Result{}, err) }
}

// Exchange is the end of a Future that a Conn holds otherwise. Its methods may be
// called from any goroutine.
type Exchange struct{ hook testhook.Future }

// NewFuture returns a Future in [mqtt.StageQueued], and the Exchange that moves
// it on. Its Cancel reports false: there is no queue to take the message from.
func NewFuture() (*mqtt.Future, *Exchange) {
	h := testhook.NewFuture()
	return h.Future.(*mqtt.Future), &Exchange{h}
}

// Advance moves the Future to stage, [mqtt.StageSent] or [mqtt.StageReceived],
// with the packet identifier that it shows then.
func (x *Exchange) Advance(stage mqtt.Stage, packetID uint16) {
	x.hook.Advance(uint8(stage), packetID)
}

// Resolve ends the Future with what the server said, and err; nil is success.
// A PacketID of 0 leaves the one of Advance. The first call counts; ErrPending,
// which is no end, changes nothing.
func (x *Exchange) Resolve(r mqtt.Result, err error) { x.hook.Resolve(r, err) }
