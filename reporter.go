package mqtt

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// reporter tells the application what happens, by events and log records. Any
// goroutine may use it.
type reporter struct {
	events   *events
	log      *slog.Logger
	clientID atomic.Pointer[string] // in use: given, generated, or assigned by the server
	ending   chan struct{}          // closed when the Conn begins to close: no log handler is waited for any longer
}

func newReporter(log *slog.Logger, clientID string) *reporter {
	r := &reporter{events: newEvents(), log: log, ending: make(chan struct{})}
	r.clientID.Store(&clientID)
	return r
}

// emit hands an event to the listeners.
func (r *reporter) emit(ev Event) { r.events.emit(ev) }

// info logs msg with the client identifier and the number of the link, the last
// one when none is up.
func (r *reporter) info(msg string, args ...any) {
	r.record(slog.LevelInfo, msg, append([]any{"client", *r.clientID.Load(), "link", r.events.linkNo()}, args...)...)
}

// record logs msg. The record is with the handler when it returns.
func (r *reporter) record(level slog.Level, msg string, args ...any) {
	if r.log.Handler() == slog.DiscardHandler {
		return
	}
	r.inform(logHandler, func() { r.log.Log(context.Background(), level, "mqtt: "+msg, args...) })
}

// inform is apart for a function without an answer. It waits until the Conn closes.
func (r *reporter) inform(name string, f func()) {
	apart(r.ending, name, func() (struct{}, error) { f(); return struct{}{}, nil })
}
