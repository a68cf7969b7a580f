package mqtt_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/testhook"
)

// churnApp is the application in one process.
type churnApp struct {
	*churnRun
	process        int
	conn           *mqtt.Conn
	slots, readers sync.WaitGroup
	stopped        chan struct{}

	// Guarded by churnRun.mu.
	last    map[*mqtt.Subscription]uint64
	given   map[*mqtt.Subscription]map[uint64]bool
	unacked []mqtt.Message
}

// stop has no more subscriptions come.
func (a *churnApp) stop() {
	close(a.stopped)
	a.slots.Wait()
}

// check compares what the inbox counts and lists with what it has.
func (a *churnApp) check() {
	synctest.Wait()
	if a.conn.State() < mqtt.StateClosing {
		for _, problem := range testhook.InboxProblems(a.conn) {
			a.t.Error(problem)
		}
	}
}

// The forms in which a subscription is read.
const (
	byIterator = iota
	overChannel
	byHandler
	typedChannel
)

// manner is how a subscription is read.
type manner struct {
	form     int
	manual   bool
	stalls   bool
	anyOrder bool
}

func (a *churnApp) ack(m mqtt.Message) {
	if err := m.Ack(); err != nil && !errors.Is(err, mqtt.ErrClosed) {
		a.t.Errorf("Ack of %x: %v", m.InboxKey(), err)
	}
}

func (a *churnApp) ackAll() {
	a.mu.Lock()
	all := a.unacked
	a.unacked = nil
	a.mu.Unlock()
	for _, m := range all {
		a.ack(m)
	}
}

// work is what the application does with a message.
func (a *churnApp) work(sub *mqtt.Subscription, o manner, m mqtt.Message, rnd *rand.Rand) {
	key := m.InboxKey()
	a.mu.Lock()
	e := a.entered[key]
	if e == nil || string(m.Payload) != strconv.Itoa(e.n) || m.Topic != a.topics[e.n] || m.Redelivered() != (e.process != a.process) {
		a.mu.Unlock()
		a.t.Errorf("%q on %s, redelivered %t, has the key %x of %+v", m.Payload, m.Topic, m.Redelivered(), key, e)
		return
	}
	if a.given[sub] == nil {
		a.given[sub] = map[uint64]bool{}
	}
	if a.given[sub][key] {
		a.t.Errorf("%x came to %p twice", key, sub)
	}
	a.given[sub][key] = true
	late := e.unruly || a.grace < time.Hour && e.process != a.process // the end of a grace lets it come behind newer ones
	if key < a.last[sub] && !o.anyOrder && !late {
		a.t.Errorf("%x, for %q, came to %p of %v after %x", key, e.names, sub, sub.Filters(), a.last[sub])
	}
	a.last[sub] = max(a.last[sub], key)
	for _, f := range sub.Filters() {
		e.had[f.Pattern] = true
	}
	if len(sub.Filters()) == 0 {
		e.had[""] = true
	}
	var acks []mqtt.Message
	if o.manual {
		a.unacked = append(a.unacked, m)
		for len(a.unacked) > 0 && rnd.IntN(4) > 0 {
			at := rnd.IntN(len(a.unacked))
			acks = append(acks, a.unacked[at])
			a.unacked = slices.Delete(a.unacked, at, at+1)
		}
	}
	a.mu.Unlock()
	for _, m := range acks {
		a.ack(m)
	}
}

var errUnruly = errors.New("the body panics")

// read reads a subscription until it ends.
func (a *churnApp) read(sub *mqtt.Subscription, o manner, rnd *rand.Rand) {
	pace := time.Duration(1+rnd.IntN(2)*rnd.IntN(300)) * time.Millisecond
	var mu sync.Mutex // several workers may share rnd
	body := func(m mqtt.Message) {
		mu.Lock()
		a.work(sub, o, m, rnd)
		d := time.Duration(rnd.Int64N(int64(pace)))
		if o.stalls && rnd.IntN(30) == 0 {
			d = time.Duration(rnd.IntN(60)) * time.Second
		}
		mu.Unlock()
		time.Sleep(d)
	}
	switch o.form {
	case byIterator:
		for a.iterate(sub, body, rnd) {
		}
	case overChannel:
		for m := range sub.C() {
			body(m)
		}
	case byHandler:
		sub.Handle(body)
		<-sub.Done()
		time.Sleep(2 * time.Minute) // until the last body has run
	case typedChannel:
		for m := range mqtt.AsTyped(sub, mqtt.UTF8()).C() {
			body(m.Msg)
		}
	}
}

// iterate loops over a subscription and reports whether the body has panicked.
func (a *churnApp) iterate(sub *mqtt.Subscription, body func(mqtt.Message), rnd *rand.Rand) (again bool) {
	defer func() {
		if again = recover() == errUnruly; !again {
			<-sub.Done()
		}
	}()
	for m := range sub.All() {
		if rnd.IntN(20) == 0 {
			a.mu.Lock()
			a.entered[m.InboxKey()].unruly = true
			a.mu.Unlock()
			time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
			panic(errUnruly)
		}
		body(m)
	}
	return false
}

// slot subscribes again and again.
func (a *churnApp) slot(rnd *rand.Rand) {
	for {
		select {
		case <-a.stopped:
			return
		case <-a.conn.Done():
			return
		case <-time.After(time.Duration(rnd.IntN(3)*rnd.IntN(2000)) * time.Millisecond):
		}
		if rnd.IntN(8) == 0 {
			a.catchAll(rnd)
		} else {
			a.subscribe(rnd)
		}
	}
}

// subscribe is the life of one subscription.
func (a *churnApp) subscribe(rnd *rand.Rand) {
	var filters []mqtt.Filter
	var names []string
	for _, i := range rnd.Perm(len(churnFilters))[:1+rnd.IntN(3)*rnd.IntN(2)] {
		filters = append(filters, mqtt.Filter{Pattern: churnFilters[i], QoS: 2})
		names = append(names, churnFilters[i])
	}
	slow := []mqtt.SlowPolicy{mqtt.SlowHold, mqtt.SlowLatest, mqtt.SlowEvict, mqtt.SlowBlock, mqtt.SlowDropNewest}[rnd.IntN(5)]
	o := manner{form: rnd.IntN(4), manual: rnd.IntN(3) == 0, stalls: rnd.IntN(3) == 0 && slow != mqtt.SlowBlock, anyOrder: slow == mqtt.SlowLatest}
	opts := []mqtt.SubscribeOption{mqtt.WithBuffer(rnd.IntN(4)), mqtt.WithPendingLimit(1+rnd.IntN(20), rnd.IntN(2)*(1+rnd.IntN(600))), mqtt.WithSlowPolicy(slow)}
	maybe := func(odds int, opt mqtt.SubscribeOption) bool {
		yes := rnd.IntN(odds) == 0
		if yes {
			opts = append(opts, opt)
		}
		return yes
	}
	if o.manual {
		opts = append(opts, mqtt.WithManualAck())
	}
	if o.form == byHandler && maybe(2, mqtt.WithWorkers(3)) {
		o.anyOrder = true
	}
	maybe(2, mqtt.WithPartialSuccess())
	maybe(2, mqtt.WithoutWaiting())
	atEnd := maybe(6, mqtt.WithUnsubscribeAtEnd())
	ctx, cancel := context.WithCancel(a.t.Context())
	defer cancel()
	early := time.NewTimer(time.Hour)
	if rnd.IntN(4) == 0 {
		early = time.AfterFunc(time.Duration(rnd.IntN(300))*time.Millisecond, cancel)
	}
	sub, err := a.conn.SubscribeMany(ctx, filters, opts...)
	early.Stop()
	if err != nil {
		return
	}
	reads := branch(rnd)
	a.readers.Go(func() { a.read(sub, o, reads) })
	for range rnd.IntN(6) {
		select {
		case <-sub.Done():
		case <-a.stopped:
		case <-time.After(time.Duration(rnd.IntN(8000)) * time.Millisecond):
		}
		if rnd.IntN(4) == 0 {
			sub.Pause()
		}
	}
	sub.Resume()
	if rnd.IntN(5) == 0 {
		a.unsubscribe(sub)
	}
	cancel()
	<-sub.Done()
	if atEnd || errors.Is(sub.Err(), mqtt.ErrUnsubscribed) || slow == mqtt.SlowLatest && sub.Stats().Dropped > 0 {
		a.waive(names...)
	}
}

func (a *churnApp) unsubscribe(sub *mqtt.Subscription) {
	ctx, done := context.WithTimeout(a.t.Context(), time.Second)
	defer done()
	sub.Unsubscribe(ctx)
}

// catchAll is the life of a catch-all, unless another slot has it.
func (a *churnApp) catchAll(rnd *rand.Rand) {
	sub := a.conn.CatchAll(mqtt.WithPendingLimit(1+rnd.IntN(10), 0), mqtt.WithBuffer(0))
	a.mu.Lock()
	taken := a.given[sub] != nil
	if !taken {
		a.given[sub] = map[uint64]bool{}
	}
	a.mu.Unlock()
	if taken {
		return
	}
	reads := branch(rnd)
	a.readers.Go(func() { a.read(sub, manner{form: overChannel, anyOrder: true}, reads) })
	select {
	case <-time.After(time.Duration(rnd.IntN(10_000)) * time.Millisecond):
	case <-sub.Done():
	case <-a.stopped:
	}
	sub.Unsubscribe(a.t.Context())
	if errors.Is(sub.Err(), mqtt.ErrUnsubscribed) {
		a.waive("")
	}
}
