package mqtt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// The durable inbox among subscriptions that come and go: overlapping filters, every
// form and policy, refusals, evictions and panics, over links that break, on a disk
// that is slow, full or unreadable at times, in processes that die at any commit. For
// every message that was entered:
//
//   - each filter that it came for had it handed out to one of its subscriptions, or
//     was unsubscribed since (with a grace that ends, one of its filters had);
//   - one subscription has it once, with the key it was entered under, in order;
//   - it is deleted once, and at the end nothing is left;
//   - at rest, what the inbox counts and lists is what it has.
func TestInboxUnderChurn(t *testing.T) {
	inBubbles(t, 200, 20_000, churn)
}

var (
	churnFilters = []string{"a/#", "a/+", "a/b", "b", "$share/g/b"}
	churnTopics  = []string{"a/b", "a/c", "a/b/c", "b", "a"}
)

// churnFilterTakes reports whether a filter of churnFilters, or the catch-all, takes a topic.
func churnFilterTakes(filter, topic string) bool {
	switch filter = strings.TrimPrefix(filter, "$share/g/"); filter {
	case "":
		return true
	case "a/#":
		return topic == "a" || strings.HasPrefix(topic, "a/")
	case "a/+":
		return topic == "a/b" || topic == "a/c"
	}
	return filter == topic
}

// entered is one message in the inbox.
type entered struct {
	n       int // of the message
	process int
	names   []string        // the filters it came for
	had     map[string]bool // filters of which a subscription had it
	onDisk  bool
	unruly  bool // put back by a panic
}

// churnRun is one round.
type churnRun struct {
	t       *testing.T
	rnd     *rand.Rand
	v       mqtt.Version
	srv     *server.Server
	network *server.Network
	disk    *disk
	grace   time.Duration // of every process

	mu      sync.Mutex
	number  int      // of the process
	topics  []string // of the messages
	entered map[uint64]*entered
	waived  map[string]int // by filter: messages before that one may be given up
}

func churn(t *testing.T, rnd *rand.Rand) {
	r := &churnRun{t: t, rnd: rnd, v: []mqtt.Version{mqtt.V311, mqtt.V5}[rnd.IntN(2)], network: &server.Network{}, disk: newDisk(),
		grace: 50 * time.Hour, entered: map[uint64]*entered{}, waived: map[string]int{}}
	if rnd.IntN(3) == 0 {
		r.grace = time.Duration(rnd.IntN(12)-1) * time.Second
	}
	var refusals sync.Mutex
	refuse, odds := branch(rnd), rnd.IntN(3)
	r.srv = server.Start(r.network, server.Config{Inflight: 1 + rnd.IntN(30), CopyPerSubscription: rnd.IntN(3) == 0,
		OnSubscribe: func(_ string, s codec.Subscription) codec.ReasonCode {
			refusals.Lock()
			defer refusals.Unlock()
			if odds > 0 && refuse.IntN(12) < odds {
				return codec.UnspecifiedError
			}
			return codec.ReasonCode(s.QoS)
		}})
	deaths := rnd.IntN(4)
	for range deaths {
		r.live()
	}
	refusals.Lock()
	odds = 0
	refusals.Unlock()
	r.lastLife()
	r.srv.Close()
	for _, v := range r.srv.Violations() {
		t.Error(v)
	}
	for key, e := range r.entered {
		r.judge(key, e)
	}
	if n := r.disk.kinds(t)[store.Inbox]; n > 0 {
		t.Errorf("%d left in the store", n)
	}
}

// judge checks at the end that each filter that a message came for had it.
func (r *churnRun) judge(key uint64, e *entered) {
	given := func(name string) bool { return e.had[name] || e.n < r.waived[name] }
	missing := slices.DeleteFunc(slices.Clone(e.names), given)
	switch anybody := len(e.had) > 0 || slices.ContainsFunc(append(churnFilters, ""), func(name string) bool {
		return churnFilterTakes(name, r.topics[e.n]) && e.n < r.waived[name]
	}); {
	case e.onDisk:
		r.t.Errorf("%x, message %d on %s for %q, is still there", key, e.n, r.topics[e.n], e.names)
	case len(e.names) == 0 || r.grace < time.Hour:
		if !anybody && len(missing) == len(e.names) {
			r.t.Errorf("%x, message %d on %s for %q, came to no subscription", key, e.n, r.topics[e.n], e.names)
		}
	case len(missing) > 0:
		r.t.Errorf("%x, message %d on %s for %q, never came to %q", key, e.n, r.topics[e.n], e.names, missing)
	}
}

// watch notes what is written to the disk.
func (r *churnRun) watch(ops []store.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, op := range ops {
		if op.Key.Kind != store.Inbox {
			continue
		}
		if op.Delete {
			if e := r.entered[op.Key.Seq]; e == nil || !e.onDisk {
				r.t.Errorf("%x is deleted, and was not there", op.Key.Seq)
			} else {
				e.onDisk = false
			}
			continue
		}
		e := &entered{process: r.number, had: map[string]bool{}, onDisk: true}
		e.n, _ = strconv.Atoi(string(op.Body))
		text := func(b []byte) (string, []byte) {
			n := 2 + int(binary.BigEndian.Uint16(b))
			return string(b[2:n]), b[n:]
		}
		for left, b := binary.BigEndian.Uint16(op.Head[2:]), op.Head[4:]; left > 0; left-- {
			var name string
			name, b = text(b)
			e.names = append(e.names, name)
		}
		r.entered[op.Key.Seq] = e
	}
}

// waive notes that what has come for filters so far may be given up.
func (r *churnRun) waive(filters ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range filters {
		r.waived[f] = len(r.topics)
	}
}

// begin begins a process, whose store is unreadable at times.
func (r *churnRun) begin(p *process, opts ...mqtt.ConnectOption) *mqtt.Conn {
	rnd := r.rnd
	if rnd.IntN(2) == 0 {
		p.rng = branch(rnd)
	}
	p.seen = r.watch
	opts = append(opts, mqtt.WithInbox(), mqtt.WithBacklogGrace(r.grace), mqtt.WithReceiveMaximum(1+rnd.IntN(30)),
		mqtt.WithStuckAfter(time.Duration(1+rnd.IntN(30))*time.Second))
	if rnd.IntN(2) == 0 {
		opts = append(opts, mqtt.WithStore(&unreadable{Store: p, rnd: branch(rnd), odds: 2 + rnd.IntN(10)}))
	}
	return p.connect(r.t, r.v, opts...)
}

// live is the life of a process that dies.
func (r *churnRun) live() {
	rnd := r.rnd
	p := r.disk.process(r.network)
	if rnd.IntN(2) == 0 {
		p.commits, p.after = 5+rnd.IntN(120), rnd.IntN(2) == 0
	}
	a := r.application(p)
	if a == nil {
		return
	}
	switch rnd.IntN(4) {
	case 0:
		a.conn.Close()
	case 1:
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Duration(rnd.IntN(120))*time.Second)
		go func() {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
				a.ackAll()
			}
		}()
		a.conn.Drain(ctx)
		cancel()
	}
	p.kill()
	a.conn.Abort()
	a.stop()
	a.readers.Wait()
	time.Sleep(20 * time.Second) // a commit in progress, and acknowledgements
}

// lastLife is that of a process which sees everything through.
func (r *churnRun) lastLife() {
	p := r.disk.process(r.network)
	a := r.application(p)
	p.mu.Lock()
	p.fail = nil
	p.mu.Unlock()
	a.stop()
	for _, f := range churnFilters {
		sub, err := a.conn.Subscribe(r.t.Context(), f, mqtt.WithoutWaiting(), mqtt.QoS(2))
		if err != nil {
			r.t.Error(err)
			continue
		}
		reads := branch(r.rnd)
		a.readers.Go(func() { a.read(sub, manner{form: overChannel}, reads) })
	}
	all, reads := a.conn.CatchAll(), branch(r.rnd)
	a.readers.Go(func() { a.read(all, manner{form: overChannel}, reads) })
	time.Sleep(15 * time.Second) // the disk is fast by now
	for range 600 {
		a.ackAll()
		synctest.Wait()
		info, _ := r.srv.Session("c")
		if a.conn.State() == mqtt.StateConnected && info.Open+info.Queued+a.conn.Stats().Held+r.left() == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	a.check()
	a.conn.Close()
	a.readers.Wait()
}

// left returns how many messages are on the disk.
func (r *churnRun) left() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entered {
		if e.onDisk {
			n++
		}
	}
	return n
}

// application has an application come to life and a good deal happen to it.
func (r *churnRun) application(p *process) *churnApp {
	rnd := r.rnd
	var opts []mqtt.ConnectOption
	declared := ""
	if rnd.IntN(3) == 0 {
		declared = churnFilters[rnd.IntN(4)]
		opts = append(opts, mqtt.WithSubscription(declared, mqtt.QoS(2), mqtt.WithPendingLimit(1+rnd.IntN(20), 0), mqtt.WithBuffer(rnd.IntN(4))))
	}
	r.mu.Lock()
	r.number++
	number := r.number
	r.mu.Unlock()
	conn := r.begin(p, opts...)
	if conn == nil {
		return nil
	}
	fails, often := branch(rnd), rnd.IntN(3)
	p.mu.Lock()
	p.fail = func([]store.Op) error {
		if often == 0 || fails.IntN(80/often) > 0 {
			return nil
		}
		return store.ErrFull
	}
	p.mu.Unlock()
	a := &churnApp{churnRun: r, process: number, conn: conn, stopped: make(chan struct{}), last: map[*mqtt.Subscription]uint64{}, given: map[*mqtt.Subscription]map[uint64]bool{}}
	if declared != "" {
		sub, rnd := conn.Subscription(declared), branch(rnd)
		a.readers.Go(func() { a.read(sub, manner{form: rnd.IntN(4)}, rnd) })
	}
	for range 1 + rnd.IntN(4) {
		rnd := branch(rnd)
		a.slots.Go(func() { a.slot(rnd) })
	}
	for range 10 + rnd.IntN(40) {
		r.step(p, conn)
		if rnd.IntN(3) == 0 {
			a.check()
		}
	}
	return a
}

// step is something that happens.
func (r *churnRun) step(p *process, conn *mqtt.Conn) {
	switch n := r.rnd.IntN(24); {
	case n < 11:
		for range 1 + r.rnd.IntN(15) {
			r.mu.Lock()
			n, topic := len(r.topics), churnTopics[r.rnd.IntN(len(churnTopics))]
			r.topics = append(r.topics, topic)
			r.mu.Unlock()
			publish(r.t, r.srv, topic, byte(1+r.rnd.IntN(2)), strconv.Itoa(n))
		}
	case n == 11:
		r.srv.Cut("c")
	case n == 12:
		r.srv.Redeliver("c")
	case n == 13 && r.rnd.IntN(3) == 0:
		r.srv.DropSession("c")
	case n == 14 && r.rnd.IntN(2) == 0:
		f := churnFilters[r.rnd.IntN(len(churnFilters))]
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		conn.Unsubscribe(ctx, f)
		cancel()
		r.waive(f)
	case n == 15:
		gate := make(chan struct{})
		p.mu.Lock()
		p.gate = gate
		p.mu.Unlock()
		time.AfterFunc(time.Duration(r.rnd.IntN(3000)*(1+r.rnd.IntN(2)*r.rnd.IntN(5)))*time.Millisecond, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.gate == gate {
				p.gate = nil
			}
			close(gate)
		})
	default:
		time.Sleep(time.Duration(r.rnd.IntN(1500)) * time.Millisecond)
	}
}

// unreadable is a store whose reads fail at random.
type unreadable struct {
	store.Store
	mu   sync.Mutex
	rnd  *rand.Rand
	odds int
}

func (u *unreadable) Session(id string) (store.Session, error) {
	s, err := u.Store.Session(id)
	if err != nil {
		return nil, err
	}
	return &unreadableSession{s, u}, nil
}

type unreadableSession struct {
	store.Session
	u *unreadable
}

func (s *unreadableSession) Read(keys []store.Key, visit func(int, []byte) error) error {
	s.u.mu.Lock()
	fail, n := s.u.rnd.IntN(s.u.odds) == 0, s.u.rnd.IntN(len(keys)+1)
	s.u.mu.Unlock()
	if !fail {
		return s.Session.Read(keys, visit)
	}
	if err := s.Session.Read(keys[:n], visit); err != nil {
		return err
	}
	return fmt.Errorf("input/output error at %d of %d", n, len(keys))
}
