package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// simProcess is one process that has the client: a Conn and the goroutines that use it.
type simProcess struct {
	w      *world
	rng    *rand.Rand
	disk   *process // nil without a store
	conn   *mqtt.Conn
	ctx    context.Context // of all that the process does, but not of the Conn
	cancel context.CancelFunc
	hurry  chan struct{} // closed when readers shall be quick
	actors sync.WaitGroup
	busy   sync.WaitGroup // publishers and slots
	over   bool           // it has ended, or is about to
	came   map[uint16]int // by packet identifier: the QoS 2 message that came last
	asks   map[string]int // Subscribe calls, by filter
	fresh  bool           // the last CONNACK began a session, and the store lived
}

// start starts a process. One that is to die may do so by itself.
func (w *world) start(mortal bool) *simProcess {
	p := &simProcess{w: w, rng: w.stream(), hurry: make(chan struct{}), came: map[uint16]int{}, asks: map[string]int{}}
	p.ctx, p.cancel = context.WithCancel(w.t.Context())
	opts, dial := w.plan.options(), w.network.Dial
	if w.plan.stored {
		p.disk = w.disk.process(w.network)
		p.disk.rng, dial = w.stream(), p.disk.dial
		if mortal && p.rng.IntN(2) == 0 {
			p.disk.commits, p.disk.after = 1+p.rng.IntN(60), p.rng.IntN(2) == 0
		}
		opts = append(opts, mqtt.WithStore(p.disk))
	}
	opts = append(opts, mqtt.WithDialer(dial), mqtt.WithPacketHook(p.see), mqtt.WithPacketPayload())
	conn, err := mqtt.Connect(w.t.Context(), "mqtt://server", opts...)
	if err != nil {
		p.cancel()
		if p.disk == nil || !p.disk.isDead() {
			w.t.Fatalf("Connect: %v", err)
		}
		return nil
	}
	w.log("a process begins")
	p.conn = conn
	p.actors.Go(p.events)
	if w.plan.keeper {
		rng := w.stream()
		p.actors.Go(func() { p.keep(rng) })
	}
	w.recover(p)
	for n := range w.plan.publishers {
		rng := w.stream()
		p.busy.Go(func() { p.publisher(n, rng) })
	}
	for range w.plan.slots {
		rng := w.stream()
		p.busy.Go(func() { p.slot(rng) })
	}
	rng := w.stream()
	p.busy.Go(func() { p.meddle(rng) })
	return p
}

// pause waits for up to d, and reports whether the process goes on.
func (p *simProcess) pause(rng *rand.Rand, d time.Duration) bool {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(d + 1)))):
		return p.ctx.Err() == nil
	case <-p.ctx.Done():
		return false
	}
}

// meddle does what applications do now and then to the whole Conn.
func (p *simProcess) meddle(rng *rand.Rand) {
	for p.pause(rng, 20*time.Second) {
		switch rng.IntN(3) {
		case 0:
			p.w.log("reconnect")
			if err := p.conn.Reconnect(); err != nil && !p.ended() {
				p.w.fail("Reconnect: %v", err)
			}
		case 1:
			p.unsubscribeByHand(rng)
		}
	}
}

// keeperFilter matches most of what the server publishes, and is none of simFilters.
const keeperFilter = "in/+/#"

// keep reads what is declared by every process: I1 over their deaths. Now and then
// it falls behind, so that there is something to lose.
func (p *simProcess) keep(rng *rand.Rand) {
	for m := range p.conn.Subscription(keeperFilter).All() {
		p.w.mu.Lock()
		p.w.note("the keeper gets message %s, QoS %d, DUP %t", m.Payload, m.QoS, m.Dup())
		delete(p.w.kept, atoi(m))
		p.onceOverProcesses(m)
		p.w.mu.Unlock()
		if rng.IntN(20) == 0 {
			select {
			case <-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond):
			case <-p.hurry:
			case <-p.ctx.Done():
			}
		}
	}
}

// see notes which messages of QoS 2 this process answers: it has made sure then
// that a later one knows them. It is the hook of the Conn.
func (p *simProcess) see(i mqtt.PacketInfo) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	switch {
	case !i.Sent && i.Type == codec.PUBLISH && i.QoS == 2:
		n, _ := strconv.Atoi(string(i.Payload))
		p.came[i.PacketID] = n
	case i.Sent && i.Type == codec.PUBREC:
		if n, ok := p.came[i.PacketID]; ok && p.w.answered[n] == nil {
			p.w.answered[n] = p
		}
	}
}

// onceOverProcesses is I2 from one process to the next. world.mu is held.
func (p *simProcess) onceOverProcesses(m mqtt.Message) {
	if by := p.w.answered[atoi(m)]; m.QoS == 2 && by != nil && by != p && !m.Redelivered() && !p.w.plan.copies {
		p.w.broken("I2: message %s of QoS 2 was answered by an earlier process and came again", m.Payload)
	}
}

func (p *simProcess) ended() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.over || p.disk != nil && p.disk.isDead()
}

// liveAndDie is the life of a process that is killed.
func (w *world) liveAndDie() {
	p := w.start(true)
	if p == nil {
		w.mu.Lock()
		w.deaths++
		w.mu.Unlock()
		return
	}
	w.sleep(p.rng, w.plan.span)
	w.mu.Lock()
	p.over = true
	w.deaths++
	w.voidAll()
	w.note("the process dies")
	w.mu.Unlock()
	p.disk.kill()
	w.survivors(p)
	p.cancel()
	p.conn.Abort()
	<-p.conn.Done()
	p.busy.Wait()
	p.actors.Wait()
	w.survivors(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.fresh {
		w.told-- // the store may not know of the new session
	}
}

// told notes whether a new session's CONNACK came to a process that can note it.
func (p *simProcess) told(fresh bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.fresh = fresh && (p.disk == nil || !p.disk.isDead()); p.fresh {
		p.w.told++
	}
}

// retire ends the last process well, after C2.
func (p *simProcess) retire() {
	w := p.w
	p.cancel()
	p.busy.Wait()
	close(p.hurry)
	w.mu.Lock()
	for _, s := range w.subs {
		s.sub.Resume()
	}
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Hour)
	defer cancel()
	if err := p.conn.WaitConnected(ctx); err != nil {
		w.fail("C2: not connected: %v", err)
	}
	if err := p.conn.Flush(ctx); err != nil {
		w.fail("O1: Flush: %v", err)
	}
	p.settled()
	w.lastMessages(p)
	p.settled()
	p.checkSubscriptions()
	p.close(ctx)
	p.actors.Wait()
	w.checkIn()
}

// settled is C2 but for the last messages.
func (p *simProcess) settled() {
	w := p.w
	time.Sleep(15 * time.Second) // graces of detached and ended subscriptions
	for range 2000 {
		synctest.Wait()
		s := p.conn.Stats()
		info, _ := w.srv.Session("c")
		if s.Queued+s.Inflight+s.AcksOwed+info.Open+info.Queued == 0 && s.QueuedBytes == 0 && p.filtersAgree() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	if w.hidden() {
		return
	}
	info, _ := w.srv.Session("c")
	w.fail("C2: not settled: %+v, at the server %+v", p.conn.Stats(), info)
}

// close ends the Conn in one of its ways.
func (p *simProcess) close(ctx context.Context) {
	w := p.w
	w.mu.Lock()
	p.over = true
	w.mu.Unlock()
	var err error
	switch w.plan.end {
	case 0:
		err = p.conn.Close()
	case 1:
		err = p.conn.Drain(ctx)
	case 2:
		p.conn.Abort()
	}
	if err != nil {
		w.fail("the end of the Conn: %v", err)
	}
	<-p.conn.Done()
	if err := p.conn.Err(); !errors.Is(err, mqtt.ErrClosed) {
		w.fail("the Conn ended with %v", err)
	}
}

// events is C1.
func (p *simProcess) events() {
	up, closed, missed, link := false, false, 0, uint32(0)
	var broken []string // worth nothing when events were missed: the gap is before they tell of it
	broke := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	for e := range p.conn.Events() {
		if closed {
			p.w.fail("C1: %T after Closed", e)
		}
		missed += e.Info().Missed
		switch e := e.(type) {
		case mqtt.Connected:
			p.w.log("connected, session present %t", e.SessionPresent)
			if up || e.Link <= link {
				broke("C1: Connected, link %d, after link %d, up %t", e.Link, link, up)
			}
			up, link = true, e.Link
			p.told(!e.SessionPresent)
			if !p.w.plan.durable {
				p.w.mu.Lock()
				p.w.voidAll() // what came before this link was another session's
				p.w.mu.Unlock()
			}
		case mqtt.Disconnected:
			p.w.log("disconnected: %v", e.Err)
			if !up || e.Link != link {
				broke("C1: Disconnected, link %d, after link %d, up %t", e.Link, link, up)
			}
			up = false
		case mqtt.Closed:
			if closed = true; up {
				broke("C1: Closed without Disconnected")
			}
		case mqtt.PublishSetAside, mqtt.StoreFailed:
			p.w.log("%T %+v", e, e)
		}
	}
	for _, b := range broken {
		if missed == 0 {
			p.w.fail("%s", b)
		}
	}
	if !closed {
		p.w.fail("C1: the events ended without Closed")
	}
}
