package mqtt_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// The durable inbox at random: an application that notes the key of each piece of
// work that it has done, in processes that die at any commit, over links that break
// and a disk that fails now and then. Each message is worked at least once, at
// QoS 2 exactly once, for the first time in the order of publishing.
func TestInboxAtRandom(t *testing.T) {
	inBubbles(t, 200, 20_000, randomInbox)
}

// inBubbles runs rounds, each in a bubble with a stream of its own, that a seed replays:
// few of them, or many in the long tier.
func inBubbles(t *testing.T, few, many int, round func(*testing.T, *rand.Rand)) {
	t.Helper()
	if seed, ok := chance.Given(t); ok {
		synctest.Test(t, func(t *testing.T) { round(t, chance.Stream(seed, 0)) })
		return
	}
	first := chance.Seed(t)
	for i := range uint64(chance.Rounds(few, many)) {
		if ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { round(t, chance.Stream(first+i, 0)) })
		}); !ok {
			t.Fatalf("MILLRACE_SEED=%d", first+i)
		}
	}
}

// inboxFilters are subscribed by two subscriptions that share no message.
var inboxFilters = [2]string{"a/#", "b"}

// inboxRun is one round: the server, the disk, and what the application remembers.
type inboxRun struct {
	t       *testing.T
	rnd     *rand.Rand
	v       mqtt.Version
	srv     *server.Server
	network *server.Network
	disk    *disk

	mu    sync.Mutex
	sent  []int          // filter of each message
	qos   []byte         // of each message
	times map[int]int    // how often each was worked
	done  map[uint64]int // the message of each key that was worked
	given map[uint64]int // the process that was handed out each key last
	last  [2]int         // the newest message handed out, by filter
}

func randomInbox(t *testing.T, rnd *rand.Rand) {
	r := &inboxRun{t: t, rnd: rnd, v: []mqtt.Version{mqtt.V311, mqtt.V5}[rnd.IntN(2)], network: &server.Network{}, disk: newDisk(),
		times: map[int]int{}, done: map[uint64]int{}, given: map[uint64]int{}, last: [2]int{-1, -1}}
	r.srv = server.Start(r.network, server.Config{Inflight: 1 + rnd.IntN(30)})
	deaths := rnd.IntN(5)
	for number := range deaths + 1 {
		r.live(number, number == deaths)
	}
	r.srv.Close()
	for _, v := range r.srv.Violations() {
		t.Error(v)
	}
	for n, qos := range r.qos {
		if r.times[n] == 0 || qos == 2 && r.times[n] > 1 {
			t.Errorf("message %d of QoS %d was worked %d times", n, qos, r.times[n])
		}
	}
	checkEmpty(t, r.disk)
}

// live is the life of one process, of which the last sees everything through.
func (r *inboxRun) live(number int, last bool) {
	p := r.disk.process(r.network)
	rnd := r.rnd
	if rnd.IntN(2) == 0 {
		p.rng = branch(rnd)
	}
	fails := branch(rnd)
	often := rnd.IntN(3)
	faulty := func([]store.Op) error {
		if often == 0 || fails.IntN(60/often) > 0 {
			return nil
		}
		return []error{store.ErrFull, errors.New("input/output error")}[fails.IntN(2)]
	}
	if !last {
		p.commits, p.after = 1+rnd.IntN(80), rnd.IntN(2) == 0
	}
	conn := p.connect(r.t, r.v, mqtt.WithInbox(), mqtt.WithBacklogGrace(time.Minute), mqtt.WithReceiveMaximum(1+rnd.IntN(30)))
	if conn == nil {
		return
	}
	p.mu.Lock()
	p.fail = faulty
	p.mu.Unlock()
	var actors sync.WaitGroup
	for i := range inboxFilters {
		rnd := branch(rnd)
		actors.Go(func() { r.consume(conn, number, i, rnd) })
	}
	for range 10 + rnd.IntN(40) {
		r.step(p)
	}
	if last {
		p.mu.Lock()
		p.fail = nil
		p.mu.Unlock()
		r.settle(conn)
		conn.Close()
	}
	p.kill()
	conn.Abort()
	<-conn.Done()
	actors.Wait()
}

// step does one thing.
func (r *inboxRun) step(p *process) {
	switch n := r.rnd.IntN(20); {
	case n < 10:
		for range 1 + r.rnd.IntN(20) {
			r.arrive(r.rnd.IntN(2))
		}
	case n < 12:
		r.srv.Cut("c")
	case n == 12:
		if l := r.network.Last(); l != nil {
			l.CutAfter(server.Direction(1+r.rnd.IntN(2)), int64(r.rnd.IntN(200)))
		}
	case n == 13:
		r.srv.Redeliver("c")
	default:
		time.Sleep(time.Duration(r.rnd.IntN(2000)) * time.Millisecond)
	}
}

// arrive publishes a message for the i-th filter, if the server has it for us.
func (r *inboxRun) arrive(i int) {
	info, _ := r.srv.Session("c")
	for _, s := range info.Subscriptions {
		if s.Filter == inboxFilters[i] {
			r.mu.Lock()
			n, qos := len(r.sent), byte(1+r.rnd.IntN(2))
			r.sent, r.qos = append(r.sent, i), append(r.qos, qos)
			r.mu.Unlock()
			publish(r.t, r.srv, []string{"a/x", "b"}[i], qos, strconv.Itoa(n))
			return
		}
	}
}

// settle waits until server and application are through with everything.
func (r *inboxRun) settle(conn *mqtt.Conn) {
	for range 1000 {
		synctest.Wait()
		info, _ := r.srv.Session("c")
		r.mu.Lock()
		through := info.Open+info.Queued == 0 && len(r.times) == len(r.sent) && conn.Stats().Held == 0
		r.mu.Unlock()
		if time.Sleep(20 * time.Second); through { // the last are acknowledged
			return
		}
	}
	info, _ := r.srv.Session("c")
	r.t.Errorf("not through: %+v, at the server %+v, %d of %d worked", conn.Stats(), info, len(r.times), len(r.sent))
}

// consume subscribes to the i-th filter after a while and works what comes, by one
// subscription after the other: the context of each but the last ends.
func (r *inboxRun) consume(conn *mqtt.Conn, number, i int, rnd *rand.Rand) {
	for later, more := rnd.IntN(2)*20_000, rnd.IntN(4); more >= 0; later, more = 5_000, more-1 {
		select {
		case <-time.After(time.Duration(rnd.IntN(later+1)) * time.Millisecond):
		case <-conn.Done():
			return
		}
		ctx, cancel := context.WithCancel(r.t.Context())
		if more > 0 {
			ends := time.AfterFunc(time.Duration(rnd.IntN(20_000))*time.Millisecond, cancel)
			defer ends.Stop()
		}
		r.read(ctx, conn, number, i, more == 0, rnd)
		cancel()
	}
}

// read works what one subscription brings, until it ends.
func (r *inboxRun) read(ctx context.Context, conn *mqtt.Conn, number, i int, last bool, rnd *rand.Rand) {
	manual, pace := rnd.IntN(2) == 0, time.Duration(1+rnd.IntN(2)*rnd.IntN(200))*time.Millisecond
	opts := []mqtt.SubscribeOption{mqtt.QoS(2), mqtt.WithoutWaiting(), mqtt.WithBuffer(rnd.IntN(4)), mqtt.WithPendingLimit(1+rnd.IntN(20), 0)}
	if manual {
		opts = append(opts, mqtt.WithManualAck())
	}
	form := rnd.IntN(4)
	if form == 0 {
		opts = append(opts, mqtt.WithImmediateDelivery())
	}
	sub, err := conn.Subscribe(ctx, inboxFilters[i], opts...)
	if err != nil {
		if !errors.Is(err, mqtt.ErrClosed) && ctx.Err() == nil && conn.State() < mqtt.StateClosing {
			r.t.Error(err)
		}
		return
	}
	var unacked []mqtt.Message
	body := func(m mqtt.Message) {
		r.work(number, i, m)
		if manual {
			unacked = append(unacked, m)
			for len(unacked) > 0 && rnd.IntN(3) > 0 {
				at := rnd.IntN(len(unacked))
				unacked[at].Ack()
				unacked = append(unacked[:at], unacked[at+1:]...)
			}
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(pace))))
	}
	rest := func() {
		for _, m := range unacked {
			m.Ack()
		}
		unacked = nil
	}
	defer rest() // the application's, also after the end
	switch {
	case manual:
	case form == 2:
		for m := range sub.All() {
			body(m)
		}
		return
	case form == 3 && last: // else the test does not know when the last body has run
		if err := sub.Handle(body); err != nil {
			r.t.Error(err)
		}
		<-sub.Done()
		return
	}
	readWithPauses(sub.C(), body, rest)
}

// readWithPauses reads ch until it is closed, and calls pause when nothing comes for 5 s.
func readWithPauses(ch <-chan mqtt.Message, body func(mqtt.Message), pause func()) {
	for {
		select {
		case m, open := <-ch:
			if !open {
				return
			}
			body(m)
		case <-time.After(5 * time.Second):
			pause()
		}
	}
}

// work is what the application does with a message: at most once for each key.
func (r *inboxRun) work(number, i int, m mqtt.Message) {
	n, err := strconv.Atoi(string(m.Payload))
	key := m.InboxKey()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.sent[n] != i || key == 0 {
		r.t.Errorf("%q on %s with key %d for %s", m.Payload, m.Topic, key, inboxFilters[i])
		return
	}
	if before, known := r.given[key]; known && (before == number || !m.Redelivered()) {
		r.t.Errorf("message %d, key %d: handed out to process %d, and to %d with redelivered %t", n, key, before, number, m.Redelivered())
	}
	r.given[key] = number
	if old, known := r.done[key]; known {
		if old != n {
			r.t.Errorf("messages %d and %d have the key %d", old, n, key)
		}
		return
	}
	r.done[key] = n
	if r.times[n]++; r.times[n] == 1 {
		if n < r.last[i] {
			r.t.Errorf("message %d was worked after %d", n, r.last[i])
		}
		r.last[i] = n
	}
}
