package integration

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
)

// load is a publishing and a subscribing Conn with one lane for each QoS between
// them. Both have sessions that the broker is asked to keep.
type load struct {
	pub, sub *mqtt.Conn
	lanes    [3]*lane

	stop       context.CancelFunc // ends the publishers
	publishers sync.WaitGroup
	receivers  sync.WaitGroup
}

// lane is a stream of numbered messages of one QoS on a topic of its own.
type lane struct {
	qos     mqtt.QoS
	topic   string
	futures []*mqtt.Future // by number; the publisher's until it has ended

	// The receiver's until it has ended.
	seen     map[int]int // how often a number came
	order    []int       // the numbers as they came for the first time
	highest  int         // the highest number that came
	disorder int         // first arrivals after a higher number

	beat chan struct{} // receives one for every beatEvery first arrivals, unless it holds one
	end  chan struct{} // closed when the end mark came
}

const (
	pace      = 500 * time.Microsecond // between publishes of a lane
	ahead     = 64                     // publishes of a lane that may be unresolved
	beatEvery = 50                     // first arrivals for a beat
	endMark   = -1                     // the number of a lane's last message
)

// startLoad begins to publish and receive through the server at url.
func startLoad(t *testing.T, url string, v mqtt.Version) *load {
	t.Helper()
	l := &load{}
	declared := make([]mqtt.ConnectOption, 0, len(l.lanes))
	for qos := range l.lanes {
		l.lanes[qos] = newLane(mqtt.QoS(qos))
		declared = append(declared, mqtt.WithSubscription(l.lanes[qos].topic, mqtt.QoS(2)))
	}
	l.sub = connectDurable(t, url, v, "subscriber", declared...)
	// Mosquitto saves no session without a subscription, the publisher's neither.
	l.pub = connectDurable(t, url, v, "publisher", mqtt.WithSubscription("publisher/none"))
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	t.Cleanup(cancel)
	for _, lane := range l.lanes {
		sub := l.sub.Subscription(lane.topic)
		messages := sub.C()
		within(t, "the subscription of "+lane.topic, sub.Ready()) // Connect does not wait for it
		l.receivers.Go(func() { lane.receive(messages) })
		l.publishers.Go(func() { lane.publish(ctx, l.pub) })
	}
	return l
}

func newLane(qos mqtt.QoS) *lane {
	return &lane{
		qos: qos, topic: "load/" + strconv.Itoa(int(qos)),
		seen: map[int]int{}, highest: -1,
		beat: make(chan struct{}, 1), end: make(chan struct{}),
	}
}

// connectDurable makes a Conn with a session that outlives its links.
func connectDurable(t *testing.T, url string, v mqtt.Version, id string, opts ...mqtt.ConnectOption) *mqtt.Conn {
	t.Helper()
	conn, err := mqtt.Connect(context.Background(), url, append([]mqtt.ConnectOption{
		mqtt.WithVersions(v), mqtt.WithClientID(id), mqtt.WithSession(time.Hour),
		mqtt.WithBackoff(backoff.Exponential{Base: 20 * time.Millisecond, Max: 200 * time.Millisecond}),
	}, opts...)...)
	if err != nil {
		t.Fatalf("connect %s: %v", id, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// publish publishes numbers until ctx ends, through whatever happens to the link.
func (l *lane) publish(ctx context.Context, conn *mqtt.Conn) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		<-tick.C // QoS 0 has nothing else to hold it back
		f := conn.Publish(context.WithoutCancel(ctx), mqtt.Message{Topic: l.topic, Payload: mqtt.IntPayload(int64(n)), QoS: l.qos})
		l.futures = append(l.futures, f)
		if n >= ahead {
			_ = l.futures[n-ahead].Wait(ctx) // how it ended is counted later
		}
		if errors.Is(f.Err(), mqtt.ErrNotConnected) { // QoS 0 while there is no link
			_ = conn.WaitConnected(ctx)
		}
	}
}

// receive counts what comes until the subscription ends.
func (l *lane) receive(messages <-chan mqtt.Message) {
	for m := range messages {
		l.take(m)
		if len(l.seen)%beatEvery == 0 {
			select {
			case l.beat <- struct{}{}:
			default:
			}
		}
	}
}

// take counts a message, and tells its number and whether it came for the first time.
func (l *lane) take(m mqtt.Message) (n int, first bool) {
	n, _ = strconv.Atoi(string(m.Payload))
	l.seen[n]++
	if l.seen[n] > 1 {
		return n, false
	}
	l.order = append(l.order, n)
	switch {
	case n == endMark:
		close(l.end)
	case n < l.highest:
		l.disorder++
	default:
		l.highest = n
	}
	return n, true
}

// flows waits until messages that were not there before arrive on every lane.
func (l *load) flows(t *testing.T) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("publisher: %s %+v", l.pub.State(), l.pub.Stats())
			t.Logf("subscriber: %s %+v", l.sub.State(), l.sub.Stats())
			for _, lane := range l.lanes {
				s := l.sub.Subscription(lane.topic)
				t.Logf("%s: %+v %v %+v", lane.topic, s.Stats(), s.Err(), s.Results())
			}
		}
	}()
	for _, lane := range l.lanes {
		for range 3 { // the first beat may be an old one, and the second began before
			within(t, "the messages of "+lane.topic, lane.beat)
		}
	}
}

// finish stops publishing, waits for all Futures and all messages that are still
// to come, ends both Conns and returns the figures. held is as in lane.count.
func (l *load) finish(t *testing.T, w *wire, held func() map[string]bool) tally {
	t.Helper()
	l.stop()
	l.publishers.Wait()
	for _, lane := range l.lanes {
		for _, f := range lane.futures {
			_ = settled(t, f) // fails the test if it is still pending
		}
		publish(t, l.pub, mqtt.Message{Topic: lane.topic, Payload: mqtt.IntPayload(endMark), QoS: 2})
		within(t, "the end of "+lane.topic, lane.end)
		if err := l.sub.Subscription(lane.topic).Err(); err != nil {
			t.Errorf("the subscription of %s ended: %v", lane.topic, err)
		}
	}
	links := l.pub.Stats().Links
	for _, conn := range []*mqtt.Conn{l.pub, l.sub} {
		if err := conn.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	l.receivers.Wait()
	result := tally{links: links, goroutines: goroutinesLeft(t)}
	var taken map[string]bool
	if held != nil {
		taken = held()
	}
	in, out := w.inbound(t, "subscriber"), w.outbound(t, "publisher")
	for qos, lane := range l.lanes {
		result.lanes[qos] = lane.count(in, out, taken)
	}
	return result
}
