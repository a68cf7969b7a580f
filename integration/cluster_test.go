package integration

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
)

// failover is a publishing and a subscribing Conn at a NATS cluster whose nodes
// are killed while a numbered stream of QoS 1 messages runs from one to the other.
type failover struct {
	cluster  *broker.Cluster
	urls     []string // of the proxies, in the order of the nodes
	wire     wire
	lane     *lane
	pub, sub *follower

	hurried   atomic.Bool    // the publisher goes as fast as it can
	enough    atomic.Bool    // it may end once it has published all
	publisher sync.WaitGroup // until then began and the lane's Futures are its own
	others    sync.WaitGroup // receiver and followers

	began   []time.Time       // by number: when it was given to Publish
	arrived map[int]time.Time // by number: when it came first; the receiver's
	came    atomic.Int64      // how many have come
}

const (
	// failoverAhead is how many messages may be unresolved: many times the 64
	// that 3.x may have in flight, so that a node dies with a queue before it.
	failoverAhead = 512

	// failoverAckTimeout is above the 5 s in which a node gives up an answer of
	// JetStream and closes the link by itself.
	failoverAckTimeout = 8 * time.Second

	// failoverPace is the time between publishes while a node comes back, so that
	// the cluster catches up under load and enough is left for the next kill, and
	// while NATS holds more than failoverLead that the subscriber has not got.
	failoverPace = 2 * time.Millisecond
	failoverLead = 4_096

	// failoverPatience is how long nothing may come: an election, and the time
	// after which NATS sends un-acked messages again, on a loaded machine.
	failoverPatience = 2 * time.Minute
)

// TestClusterFailover kills the node that the client is on: nothing is lost, and
// every Future is nil.
func TestClusterFailover(t *testing.T) {
	messages, kills := chance.Rounds(2_000, 50_000), chance.Rounds(1, 3)
	f := startFailover(t, messages)
	var outages []outage
	for i := range kills {
		// In full flow, however far the stream came while the last node was away.
		f.await(t, max(messages*(i+1)/(kills+1), int(f.came.Load())+failoverAhead))
		victim := f.pub
		if i%2 == 1 {
			victim = f.sub // it may have gone to another node
		}
		outages = append(outages, f.kill(t, victim))
	}
	f.enough.Store(true)
	f.finish(t)
	f.check(t, outages)
}

// startFailover starts a cluster with a recording proxy before each node, and
// the stream.
func startFailover(t *testing.T, messages int) *failover {
	t.Helper()
	var opts broker.NATSOptions
	if !chance.Long() {
		opts.AckWait = 3 * time.Second // what a lost node had sent comes again only then
	}
	f := &failover{
		cluster: broker.StartNATSCluster(t, opts), lane: newLane(1),
		arrived: map[int]time.Time{},
	}
	for _, u := range f.cluster.URLs(broker.TCP) {
		f.urls = append(f.urls, startCutterOn(t, u, &f.wire).url)
	}
	f.sub = f.follow(t, "subscriber", mqtt.WithSubscription(f.lane.topic, mqtt.QoS(1)))
	f.pub = f.follow(t, "publisher")
	sub := f.sub.conn.Subscription(f.lane.topic)
	stream := sub.C()
	within(t, "the subscription", sub.Ready())
	f.hurried.Store(true)
	f.others.Go(func() { f.receive(stream) })
	f.publisher.Go(func() { f.publish(messages) })
	return f
}

// follow connects a client to the cluster, first to the first node.
func (f *failover) follow(t *testing.T, id string, opts ...mqtt.ConnectOption) *follower {
	t.Helper()
	opts = append(opts, mqtt.WithServers(f.urls[1:]...), mqtt.WithAckTimeout(failoverAckTimeout))
	l := &follower{conn: connectDurable(t, f.urls[0], mqtt.V311, id, opts...)}
	f.others.Go(l.run)
	return l
}

// publish publishes so many messages, or more until it is enough, through
// whatever happens to the link.
func (f *failover) publish(messages int) {
	tick := time.NewTicker(failoverPace)
	defer tick.Stop()
	for n := 0; n < messages || !f.enough.Load(); n++ {
		if !f.hurried.Load() || n >= messages || n-int(f.came.Load()) > failoverLead {
			<-tick.C
		}
		if n >= failoverAhead {
			<-f.lane.futures[n-failoverAhead].Done()
		}
		f.began = append(f.began, time.Now())
		future := f.pub.conn.Publish(context.Background(), mqtt.Message{Topic: f.lane.topic, Payload: mqtt.IntPayload(int64(n)), QoS: 1})
		f.lane.futures = append(f.lane.futures, future)
	}
}

// receive notes what comes until the subscription ends.
func (f *failover) receive(stream <-chan mqtt.Message) {
	for m := range stream {
		if n, first := f.lane.take(m); first && n != endMark {
			f.arrived[n] = time.Now()
			f.came.Add(1)
		}
	}
}

// await returns when n different messages have come. It ends the test when none
// comes for long.
func (f *failover) await(t *testing.T, n int) {
	t.Helper()
	if !f.reach(n) {
		t.Logf("publisher: %s %+v", f.pub.conn.State(), f.pub.conn.Stats())
		t.Logf("subscriber: %s %+v", f.sub.conn.State(), f.sub.conn.Stats())
		t.Fatalf("%d messages came, want %d; no other within %v", f.came.Load(), n, failoverPatience)
	}
}

// reach is await without the test.
func (f *failover) reach(n int) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	last, since := f.came.Load(), time.Now()
	for now := range tick.C {
		switch came := f.came.Load(); {
		case came >= int64(n):
			return true
		case came > last:
			last, since = came, now
		case now.Sub(since) > failoverPatience:
			return false
		}
	}
	return false // not reached: the ticker does not end
}

// outage is the time of a node's end.
type outage struct {
	node   int
	killed time.Time
}

// kill ends the node that a client is on, and brings it back when all that was
// in flight has come by way of the others.
func (f *failover) kill(t *testing.T, victim *follower) outage {
	t.Helper()
	o := outage{node: slices.Index(f.urls, victim.at()), killed: time.Now()}
	f.cluster.KillNode(t, o.node)
	f.await(t, int(f.came.Load())+failoverAhead)
	f.hurried.Store(false)
	f.cluster.RestartNode(t, o.node)
	f.cluster.WaitReady(t)
	f.hurried.Store(true)
	return o
}

// finish waits for all that is to come, and ends both clients.
func (f *failover) finish(t *testing.T) {
	t.Helper()
	f.publisher.Wait()
	if !f.reach(len(f.began)) { // what is missing is told by check
		t.Errorf("%d of %d messages came; no other within %v", f.came.Load(), len(f.began), failoverPatience)
	}
	publish(t, f.pub.conn, mqtt.Message{Topic: f.lane.topic, Payload: mqtt.IntPayload(endMark), QoS: 1})
	timer := time.NewTimer(failoverPatience)
	defer timer.Stop()
	select {
	case <-f.lane.end:
	case <-timer.C:
		t.Errorf("the last message did not come within %v", failoverPatience)
	}
	for _, l := range []*follower{f.pub, f.sub} {
		if err := l.conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	f.others.Wait()
}

// check logs the figures and fails the test where a promise is broken. At QoS 1 a
// message may come twice. The order in which it comes is the broker's; that it is
// also the one of the wire, and that the publisher sent in order, is ours.
func (f *failover) check(t *testing.T, outages []outage) {
	t.Helper()
	out := f.wire.outbound(t, "publisher")
	c := f.lane.count(f.wire.inbound(t, "subscriber"), out, nil)
	sentDisorder, untrue := out.disorder(f.lane.topic), 0
	for n, future := range f.lane.futures {
		if future.Err() == nil && out.acked[wireMessage{f.lane.topic, n}] == 0 {
			untrue++
		}
	}
	left := goroutinesLeft(t)
	t.Logf("%d published, %d nil Futures (%d that the broker never acknowledged), %d received, %d lost (%d that the client had acknowledged), %d doubled (%d by the broker)",
		c.published, c.succeeded, untrue, c.received, c.lost, c.taken, c.doubled, c.anew)
	t.Logf("out of order: %d as sent, %d as received, %d of it unlike the wire; goroutines left: %d", sentDisorder, c.disorder, c.unlike, left)
	for _, o := range outages {
		t.Logf("node %d killed: what was published afterwards came %v later", o.node, f.recovery(o))
	}
	t.Logf("longest without a link: publisher %v, subscriber %v; longest from Publish to arrival: %v",
		f.pub.longest, f.sub.longest, f.slowest())
	t.Logf("the publisher's links ended by %q, the subscriber's by %q", f.pub.losses, f.sub.losses)
	if c.lost > 0 || c.published > c.succeeded || c.received < c.published {
		t.Errorf("%d lost, %d Futures failed, %d did not come", c.lost, c.published-c.succeeded, c.published-c.received)
	}
	if untrue > 0 || sentDisorder > 0 || c.unlike > 0 || left > 0 {
		t.Error("a Future without its acknowledgement, an order that is not the wire's, or goroutines left")
	}
	if links := f.pub.links + f.sub.links - 2; links < len(outages) {
		t.Errorf("%d links were lost with %d nodes", links, len(outages))
	}
}

// recovery is the time from a node's end until a message that was published
// afterwards came.
func (f *failover) recovery(o outage) time.Duration {
	var first time.Time
	for n, began := range f.began {
		at, came := f.arrived[n]
		if came && began.After(o.killed) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first.Sub(o.killed)
}

// slowest is the longest time that a message took.
func (f *failover) slowest() time.Duration {
	var longest time.Duration
	for n, at := range f.arrived {
		longest = max(longest, at.Sub(f.began[n]))
	}
	return longest
}

// follower reads the events of a Conn.
type follower struct {
	conn *mqtt.Conn

	mu      sync.Mutex
	server  string        // guarded by mu; of the last link
	links   int           // guarded by mu
	longest time.Duration // guarded by mu; from the end of a link to the next one
	losses  []error       // guarded by mu; why links ended
}

// run ends with the Conn.
func (l *follower) run() {
	var lost time.Time
	for ev := range l.conn.Events() {
		switch ev := ev.(type) {
		case mqtt.Disconnected:
			lost = ev.Time
			l.mu.Lock()
			l.losses = append(l.losses, ev.Err)
			l.mu.Unlock()
		case mqtt.Connected:
			l.mu.Lock()
			l.server = ev.Server
			l.links++
			if !lost.IsZero() {
				l.longest = max(l.longest, ev.Time.Sub(lost))
			}
			l.mu.Unlock()
		}
	}
}

// at is the server of the last link.
func (l *follower) at() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}
