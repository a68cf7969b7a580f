package mqtt

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/internal/testhook"
)

// For package mqtttest, which gives Futures and Subscriptions to users' tests, and
// for the tests of test/.
var _ = testhook.Set(testhook.Hooks{
	NewFuture:       newTestFuture,
	NewSubscription: newTestSubscription,
	WithClock:       withTestClock,
	InboxProblems:   func(conn any) []string { return inboxProblems(conn.(*Conn)) },
})

// withTestClock makes a Conn go by the clock of a test.
func withTestClock(c testhook.Clock) any {
	return connectFunc(func(cfg *config) {
		cfg.clock = clock{uptime: c.Uptime, wall: c.Wall, boot: func() bootID { return c.Boot() }}
	})
}

// newTestFuture makes a Future that the test moves.
func newTestFuture() testhook.Future {
	f := new(Future)
	return testhook.Future{
		Future:  f,
		Advance: func(stage uint8, id uint16) { f.advance(Stage(min(stage, uint8(StageReceived))), id) },
		Resolve: func(result any, err error) {
			if err != ErrPending {
				f.conclude(result.(Result), err)
			}
		},
	}
}

// conclude ends f with a whole result.
func (f *Future) conclude(r Result, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage == StageDone {
		return
	}
	if r.PacketID != 0 {
		f.id = r.PacketID
	}
	if r.Reason != "" || len(r.User) > 0 {
		f.answer = &answer{r.Reason, r.User, r.UserCut}
	}
	f.stage, f.code, f.err = StageDone, r.Code, err
	f.wakeStoredLocked()
	if f.done != nil {
		close(f.done)
	}
}

// testFeed stands where reader, ledger and server stand otherwise. Its Conn was
// never connected: it lends the Subscription its ledger, events and pumps.
type testFeed struct {
	s     *Subscription
	acked atomic.Int64

	mu sync.Mutex // messages are delivered one at a time, as a reader does
	id uint16
}

// newTestSubscription makes a Subscription, granted as asked for, that the test feeds.
func newTestSubscription(filters []string, opts any) testhook.Subscription {
	f := new(testFeed)
	cfg := defaults()
	c := newConn(context.Background(), &cfg)
	c.ledger.pay = func(_ uint32, packets []byte) bool {
		f.acked.Add(int64(len(packets) / 4)) // each a PUBACK without properties
		return true
	}
	c.ledger.up(1, V311, false, 0)
	o := newSubOptions(opts.([]SubscribeOption))
	fs := make([]Filter, len(filters))
	for i := range filters {
		fs[i] = Filter{Pattern: filters[i], QoS: o.qos}
	}
	f.s = newSubscription(c.up, fs, o)
	clear(f.s.open)
	f.s.unanswered = 0
	c.routes.markReady(f.s)
	if o.err != nil {
		f.s.end(o.err, leaveAcked)
	}
	return testhook.Subscription{
		Subscription: f.s,
		Deliver:      func(msg any) bool { return f.deliver(msg.(Message)) },
		End:          func(err error) { f.s.end(err, leaveAcked) },
		Acked:        func() int { return int(f.acked.Load()) },
	}
}

// deliver brings m as the reader would. A Retain flag on it is the server's. To
// the ledger QoS 2 is QoS 1: what follows PUBREC is not the application's affair.
func (f *testFeed) deliver(m Message) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := f.s.up.ledger
	m.to, m.ref = &f.s.owner, 0
	if m.Retain {
		m.Retain, m.ref = false, flagRetained
	}
	if m.QoS > 0 {
		f.id = f.id%maxPacketID + 1
		m.id = f.id
		_, gen := g.arrive(&Message{Topic: m.Topic, id: f.id, QoS: 1}, 0, time.Now(), []*owner{&f.s.owner})
		m.setGeneration(gen)
	}
	_, _, result := f.s.deliver([]Message{m}, V311, time.Now())
	if result == notDelivered || result == deliveredToChannel && !f.s.opts.manual {
		g.doneAll([]Message{m})
	}
	g.payAcks()
	return result != notDelivered
}
