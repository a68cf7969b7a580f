package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
)

// willWatch is a subscriber, without a proxy and never killed, that counts the wills
// that the broker publishes behind the mark of a process that left.
type willWatch struct {
	conn *mqtt.Conn
	done chan struct{} // closed when its loop has ended

	mu     sync.Mutex
	marked map[string]bool // guarded by mu; by topic
	behind map[string]int  // guarded by mu; wills behind the mark
	wills  int             // guarded by mu; all of them
}

// startWillWatch returns when the broker has the subscription.
func startWillWatch(ctx context.Context, url string, v mqtt.Version) (*willWatch, error) {
	conn, err := mqtt.Connect(context.Background(), url,
		mqtt.WithVersions(v), mqtt.WithClientID(clientID("watcher")), mqtt.WithSession(time.Hour),
		mqtt.WithBackoff(backoff.Exponential{Base: 20 * time.Millisecond, Max: 200 * time.Millisecond}))
	if err != nil {
		return nil, err
	}
	w := &willWatch{conn: conn, done: make(chan struct{}), marked: map[string]bool{}, behind: map[string]int{}}
	sub, err := conn.Subscribe(ctx, willTopics+"#", mqtt.QoS(1))
	if err != nil {
		conn.Abort()
		return nil, err
	}
	go func() { // ends with conn; close waits for it
		defer close(w.done)
		for m := range sub.All() {
			w.see(m)
		}
	}()
	return w, nil
}

func (w *willWatch) see(m mqtt.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case string(m.Payload) == leaves:
		w.marked[m.Topic] = true
	case w.marked[m.Topic]:
		w.behind[m.Topic]++
		w.wills++
	default:
		w.wills++
	}
}

// awaitMark waits a while for the mark of a process that ended gracefully. The broker
// passes it on at QoS 0, so a restart just then would lose it on the way here.
func (w *willWatch) awaitMark(topic string) {
	ctx, cancel := context.WithTimeout(context.Background(), markTime)
	defer cancel()
	for !w.hasMark(topic) && pause(ctx, pollEvery) {
	}
}

// markTime is far more than the broker needs for a mark that it got.
const markTime = 2 * time.Second

func (w *willWatch) hasMark(topic string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.marked[topic]
}

// ready waits until the watcher has a link that the broker answers on: what is
// published at QoS 0 before does not come to it.
func (w *willWatch) ready(ctx context.Context) error {
	return w.conn.Publish(ctx, mqtt.Message{Topic: "chaos/none", QoS: 1}).Wait(ctx)
}

// judge counts what came of the processes in a role that ended gracefully.
func (w *willWatch) judge(role string, graceful map[int]bool, r *Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for incarnation := range graceful {
		topic := willTopic(role, incarnation)
		if n := w.behind[topic]; n > 0 {
			r.Wills += n
			r.Ends = append(r.Ends, fmt.Sprintf("%s %d had a will", role, incarnation))
		}
		if !w.marked[topic] {
			r.Unmarked++
			r.Ends = append(r.Ends, fmt.Sprintf("the last message of %s %d is lost", role, incarnation))
		}
	}
}

func (w *willWatch) close() {
	w.conn.Close()
	<-w.done
}
